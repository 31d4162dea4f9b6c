"""Plain English words for problems and dialogues. Their order is part of what makes a seed reproducible."""


def word_list(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


THINGS = word_list(
    """apple pear plum lemon nut leaf stone shell coin key pen cup spoon plate bowl box bag hat coat shoe
    sock ring bell drum ball kite rope nail brick candle lamp clock book letter stamp card brush comb
    mirror chair cat dog cow hen duck goat horse mouse fox owl bee frog"""
)

COMMON = word_list(
    """banana pepper summer winter garden river mountain window kitchen letter dinner morning evening
    number paper pencil teacher doctor farmer sailor baker butter cheese coffee sugar bottle table
    carpet ladder hammer needle button jacket pocket wallet basket blanket pillow mirror candle lantern
    engine station bridge tunnel harbour island desert forest meadow valley village castle market street
    corner garage cellar attic balcony chimney fountain museum library theatre hospital school office
    factory bakery pharmacy restaurant weather thunder rainbow snowflake blossom cabbage carrot potato
    tomato onion cucumber melon cherry raspberry rabbit squirrel hedgehog sparrow pigeon parrot eagle
    salmon lobster turtle lizard beetle spider mosquito violin trumpet guitar piano clarinet orchestra
    melody concert picture painter statue gallery journey passport suitcase ticket platform carriage
    bicycle scooter tractor airplane balloon rocket planet comet"""
)

PEOPLE = word_list(
    """Ann Ben Cara Dan Ella Finn Gina Hugo Ida Jack Kim Leo Mia Noah Olga Paul Rosa Sam Tina Uwe Vera Will
    Yara Zoe Amir Bela Chen Dina Emil Farah Goran Hana"""
)

SURNAMES = word_list(
    """Abbot Baker Carver Dyer Ewing Fisher Glover Hooper Irwin Joiner Keeler Lister Mason Nailor Oakley
    Potter Quigley Reeve Sawyer Tanner Usher Vickers Weaver Yardley"""
)
