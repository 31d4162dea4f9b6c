"""What instruction prompts are about, and the sentences that answers are made of.

Sentences are plain: a capital at the start, a full stop at the end, and no comma, digit, quotation mark or other
capital between, so that what a text is asked for can be added to it without side effects.
"""

from stages.data.synth.words import word_list

TOPICS: dict[str, tuple[str, ...]] = {
    "bees": (
        "Bees live in large families and share all the work.",
        "They fly from flower to flower and carry home what they find.",
        "Their honey keeps for years in a closed jar.",
        "A dance tells the others where good flowers grow.",
        "Without them most fruit trees would stay empty.",
    ),
    "bread": (
        "Bread needs little more than flour and water and time.",
        "The smell of a fresh loaf fills the whole house.",
        "Good dough rests before it goes into the oven.",
        "The crust protects the soft part for days.",
        "Almost every country bakes its own kind.",
    ),
    "rain": (
        "Rain fills the rivers and feeds the fields.",
        "Drops on a roof make a calm and steady sound.",
        "After a dry month everybody waits for it.",
        "Dark clouds often tell us when it will come.",
        "Plants look greener on the morning after.",
    ),
    "trains": (
        "Trains carry many people with little effort.",
        "From the window you see fields and towns go by.",
        "A timetable tells you when to be at the station.",
        "Night lines let you sleep on the way.",
        "Heavy goods also travel well on rails.",
    ),
    "the moon": (
        "The moon shines because light from the sun falls on it.",
        "It always turns the same side to us.",
        "Its pull moves the water of the seas.",
        "People have walked in its grey dust.",
        "Every month it grows round and thin again.",
    ),
    "gardens": (
        "Gardens give work in spring and rest in summer.",
        "A small bed is enough for herbs and salad.",
        "Worms and beetles keep the soil alive.",
        "Water the plants early or late in the day.",
        "Neighbours like to share seeds and advice.",
    ),
    "libraries": (
        "Libraries lend books to everybody who has a card.",
        "The reading room is a quiet place to study.",
        "Helpers at the desk know where things stand.",
        "Children come to hear stories in the afternoon.",
        "Old newspapers are kept there for later readers.",
    ),
    "bicycles": (
        "Bicycles are cheap to keep and easy to park.",
        "A drop of oil keeps the chain quiet.",
        "Lights make you visible after sunset.",
        "Short trips in town are often faster on two wheels.",
        "A helmet is a small price for safety.",
    ),
    "coffee": (
        "Coffee grows as a red fruit on small trees.",
        "The beans are dried and roasted before they are ground.",
        "A cup in the morning wakes many people up.",
        "Hot water takes the taste out of the powder.",
        "Too much of it keeps you awake at night.",
    ),
    "cats": (
        "Cats sleep for most of the day.",
        "They see well when there is little light.",
        "Soft paws let them walk without a sound.",
        "A cat decides for itself when to be petted.",
        "Mice have good reason to stay away.",
    ),
    "dogs": (
        "Dogs want to be with their people.",
        "Their noses find what our eyes miss.",
        "A long walk every day keeps them healthy.",
        "Patience and small rewards teach them a lot.",
        "Some of them help the blind to cross a street.",
    ),
    "rivers": (
        "Rivers begin as small springs in the hills.",
        "They carry sand and stones down to the sea.",
        "Many towns were built on their banks.",
        "Boats use them as wide and slow roads.",
        "After heavy storms they may leave their beds.",
    ),
    "mountains": (
        "Mountains rise where parts of the ground push together.",
        "The air grows thin and cold near the top.",
        "Snow stays there long after spring has come below.",
        "Good boots and a map belong in every pack.",
        "From the summit the valleys look small.",
    ),
    "music": (
        "Music can change a mood in a minute.",
        "A steady beat makes feet want to move.",
        "Everyone can sing even without lessons.",
        "Playing together teaches people to listen.",
        "Old songs remember what books forget.",
    ),
    "chess": (
        "Chess is played by two on a board with squares.",
        "Every piece moves in a way of its own.",
        "Good players think about what the other one wants.",
        "A quiet move can decide the whole game.",
        "Beginners learn most from games they lose.",
    ),
    "swimming": (
        "Swimming trains nearly all the muscles.",
        "Warm water helps those who begin.",
        "Breathing out slowly keeps the body calm.",
        "Never go alone into a lake you do not know.",
        "A few lengths a week make a difference.",
    ),
    "tea": (
        "Tea is made from leaves that have been dried.",
        "Green kinds want water that is not too hot.",
        "A pot on the table invites people to talk.",
        "It came to us by ship over long roads of trade.",
        "Some drink it with milk and others with lemon.",
    ),
    "clouds": (
        "Clouds are made of tiny drops of water.",
        "Wind pushes them over land and sea.",
        "White heaps promise a fair afternoon.",
        "Grey sheets often bring a long wet day.",
        "Children see animals and ships in them.",
    ),
    "bridges": (
        "Bridges join what water keeps apart.",
        "An arch sends the load to both its ends.",
        "Steel ropes can hold a road high in the air.",
        "Engineers check every joint again and again.",
        "A town is often known by the one it is proud of.",
    ),
    "markets": (
        "Markets open early and smell of fruit and bread.",
        "Farmers sell what they picked the day before.",
        "Prices fall a little before closing time.",
        "You can taste the cheese before you buy.",
        "People meet there and hear the news.",
    ),
    "winter": (
        "Winter brings short days and long evenings.",
        "Snow makes the streets quiet.",
        "A warm coat and dry shoes are half the comfort.",
        "Birds are glad about seeds on the sill.",
        "Lakes freeze and children look for their skates.",
    ),
    "holidays": (
        "Holidays give the mind time to rest.",
        "A simple plan leaves room for surprises.",
        "Some people travel far and others stay at home.",
        "Pictures help us to remember small moments.",
        "The best days often cost very little.",
    ),
    "trees": (
        "Trees give shade and clean the air.",
        "Their roots hold the soil on steep hills.",
        "Rings in the wood tell how old they are.",
        "Birds build their nests in the branches.",
        "In autumn many of them drop their leaves.",
    ),
    "letters": (
        "Letters can be read again after many years.",
        "A stamp takes them to the other end of the world.",
        "Writing by hand slows our thoughts down.",
        "A short note often means more than a long speech.",
        "People keep the dearest ones in a box.",
    ),
    "clocks": (
        "Clocks divide the day into equal parts.",
        "A swinging weight kept time in the old ones.",
        "Ships once needed them to find their place at sea.",
        "Towers show the hour to a whole town.",
        "Small errors add up when nobody looks.",
    ),
    "soup": (
        "Soup turns simple things into a warm meal.",
        "Bones or roots give it a deep taste.",
        "It should cook slowly on a small flame.",
        "A spoon of cream makes it round.",
        "On the second day it is often better.",
    ),
    "lighthouses": (
        "Lighthouses warn ships of rocks near the coast.",
        "Each of them blinks in a rhythm of its own.",
        "Keepers once climbed the stairs every night.",
        "Thick walls stand against wind and waves.",
        "Today most of them work without anybody inside.",
    ),
    "maps": (
        "Maps show the world from above.",
        "Colours stand for water and woods and heights.",
        "A scale tells how far apart two places are.",
        "Sailors trusted them with their lives.",
        "A good one folds easily and survives the wet.",
    ),
    "wind": (
        "Wind moves because warm air rises.",
        "It turns mills and fills sails.",
        "Seeds travel far on its back.",
        "Tall houses bend a little under it.",
        "Before a storm it often stops for a moment.",
    ),
    "sleep": (
        "Sleep repairs the body and sorts the day.",
        "A dark and cool room makes it easy.",
        "Most people need about a third of the day for it.",
        "Dreams come and go several times a night.",
        "Late screens keep it away.",
    ),
    "cooking": (
        "Cooking begins with fresh things and a sharp knife.",
        "Taste often and add salt in small steps.",
        "Heat is a tool that wants attention.",
        "A clean table saves time later.",
        "Sharing the meal is the best part.",
    ),
    "painting": (
        "Painting starts with looking.",
        "A few colours are enough to mix all others.",
        "Light and shadow make things round.",
        "Mistakes dry and can be covered.",
        "Step back now and then to see the whole.",
    ),
    "schools": (
        "Schools teach more than reading and counting.",
        "Friends are often found in the first week.",
        "A good teacher asks more than he tells.",
        "Breaks are needed as much as lessons.",
        "What we learn early stays with us for long.",
    ),
    "birds": (
        "Birds have light bones and strong wings.",
        "Many of them fly south before the cold comes.",
        "Their songs mark what belongs to them.",
        "A nest is built anew nearly every spring.",
        "Feathers keep them warm and dry.",
    ),
    "stars": (
        "Stars are suns that are very far away.",
        "Their light has been on its way for years.",
        "Away from towns you can see thousands of them.",
        "Sailors used them to find north.",
        "Old stories gave them shapes and names.",
    ),
    "salt": (
        "Salt comes from the sea or from deep below the ground.",
        "It keeps fish and meat from going bad.",
        "A pinch of it makes sweet things sweeter.",
        "Whole towns grew rich by selling it.",
        "The body needs some of it but not much.",
    ),
    "museums": (
        "Museums keep things that would be lost elsewhere.",
        "A small room can hold a whole century.",
        "Look at few things and look at them well.",
        "Guides tell stories that no label has.",
        "Rainy days are made for a visit.",
    ),
    "snow": (
        "Snow is ice that grew slowly in the air.",
        "No two flakes seem to have the same form.",
        "It covers the seeds and keeps them from the frost.",
        "Wet snow is heavy and breaks branches.",
        "The first fall of the year is always an event.",
    ),
    "games": (
        "Games have rules that everybody agrees on.",
        "They teach us to win and to lose.",
        "A long evening passes quickly at the table.",
        "Simple ones are often the hardest to master.",
        "Luck and skill share the work.",
    ),
    "friendship": (
        "Friendship grows out of time spent together.",
        "Friends say what others only think.",
        "Small favours matter more than big gifts.",
        "A quarrel is not the end if both want to talk.",
        "Distance changes less than one fears.",
    ),
}

MORE: tuple[str, ...] = (
    "There is always something new to learn about {topic}.",
    "Many people have a story about {topic}.",
    "I could talk about {topic} for a long time.",
    "A good book about {topic} is easy to find.",
    "My grandmother knew a great deal about {topic}.",
    "It is worth while to take a closer look.",
    "What seems simple at first is often the most interesting part.",
    "Anyone who has some time can begin with small steps.",
    "We should speak about this more often.",
    "A little patience is needed and it pays in the end.",
    "Nobody has to know everything to enjoy it.",
    "Ask someone with experience and listen well.",
    "Most of us remember the first time very clearly.",
    "It is a subject for young and old.",
    "Pictures say more here than words can do.",
    "Every day gives us a new reason to think about {topic}.",
    "In the end each of us must find out what matters.",
    "Some things only show themselves to those who wait.",
    "There are many good ways to spend an hour with {topic}.",
    "The best answers come from those who have tried it.",
    "Both the small and the large side of it deserve our attention.",
    "That is why so many people care about {topic}.",
    "It takes a while until the details become clear.",
    "Good habits make nearly everything easier.",
    "Let us not forget how much work lies behind it.",
    "A walk outside is a fine moment to think it over.",
    "Things would be poorer without it.",
    "Even experts still argue about some of the details.",
)
"""Sentences that fit every topic."""

KEYWORD_SENTENCES: tuple[str, ...] = (
    "This also makes me think of the word {word}.",
    "Do not forget to mention {word} here.",
    "Someone will surely ask about {word} too.",
    "There is a link to {word} as well.",
    "We can compare this with {word}.",
    "Another example is {word}.",
    "The next thing on my list is {word}.",
    "My friends like to talk about {word}.",
)

PLACEHOLDER_SENTENCES: tuple[str, ...] = (
    "Please write to [name] for more.",
    "We can meet at [place] to talk about it.",
    "The next meeting is on [date].",
    "Send your questions to [address].",
    "You can call us at [number].",
    "The entry costs [price] for each person.",
    "Our host will be [person].",
    "Bring [item] with you on that day.",
)

FIRST_WORDS: tuple[str, ...] = word_list(
    """today often sometimes perhaps finally clearly here indeed surely still maybe naturally usually
    lately"""
)
"""Words that can begin `FIRST_WORD_SENTENCE`."""

FIRST_WORD_SENTENCE = "{word} there is more to say about {topic}."

END_PHRASES: tuple[str, ...] = (
    "That is all for now.",
    "I hope this helps.",
    "Thank you for reading.",
    "Now it is your turn.",
    "Is there anything else you want to know?",
    "Let me know what you think.",
    "And that is the whole story.",
    "See you soon.",
    "Have a nice day.",
    "More will follow tomorrow.",
    "Try it and see.",
    "What do you say to that?",
)

KEYWORDS: tuple[str, ...] = word_list(
    """apple silver pencil island butter pocket ticket village yellow basket corner dinner hammer kitchen
    ladder needle orange rabbit umbrella bottle candle doctor jacket mirror ocean ribbon uncle voice
    wagon zebra blanket castle dragon giant anchor button carpet copper curtain dentist fiddle glove
    jungle kettle lizard marble napkin oyster parrot puppet rocket saddle spider tunnel violet walnut
    willow acorn"""
)
"""Words that no sentence here contains, also not inside of another word."""

AVOIDABLE: tuple[str, ...] = word_list("always best every many most people small some them time water young")
"""Words that many sentences here contain, but no keyword, placeholder, first-word or closing sentence."""
