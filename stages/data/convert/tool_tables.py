"""Tools of sources that name them without describing them."""

from collections.abc import Sequence
from typing import Any

_LISTS = {"attributes": "object", "addons": "object", "fields": "string"}


def _tool(name: str, description: str, required: Sequence[str] = (), **properties: str) -> dict[str, Any]:
    """A tool whose parameters are given as name=description; those in `_LISTS` are lists of objects."""
    schema = {
        parameter: {"type": "string", "description": told}
        if parameter not in _LISTS
        else {"type": "array", "description": told, "items": {"type": _LISTS[parameter]}}
        for parameter, told in properties.items()
    }
    parameters = {"type": "object", "properties": schema, "required": list(required)}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


_ATTRIBUTES = "Choices, each with attribute_id and option."
_ADDONS = "Additions, each with addon_id and option."
REACT_TOOLS = [
    _tool(
        "search", "Find an encyclopedia article and show its beginning.", ["text"], text="Title to look for."
    ),
    _tool(
        "lookup",
        "Show the next sentence of the article that contains a text.",
        ["text"],
        text="Text to find.",
    ),
]
TASKMASTER_TOOLS = [
    _tool("show_menu", "Show the menu to the customer."),
    _tool(
        "get_menu_items",
        "Search the menu.",
        ["query"],
        query="What to look for.",
        fields="More columns to return, such as description.",
    ),
    _tool(
        "get_addons",
        "Search the choices and additions of a drink or of the whole order.",
        ["query"],
        query="What to look for.",
        menu_item_id="The drink.",
        scope="'order' for those of the whole order.",
    ),
    _tool(
        "add_order_item",
        "Add a drink to the order, or begin an order with it.",
        ["menu_item_id", "quantity"],
        menu_item_id="The drink.",
        quantity="How many.",
        attributes=_ATTRIBUTES,
        addons=_ADDONS,
        notes="Remarks for the barista.",
        order_id="The order, if there is one.",
    ),
    _tool(
        "update_order_item",
        "Change a drink of the order.",
        ["order_item_id"],
        order_item_id="The drink in the order.",
        attributes=_ATTRIBUTES,
        addons=_ADDONS,
    ),
    _tool(
        "update_order",
        "Change the order as a whole, such as its name or type.",
        ["order_id"],
        order_id="The order.",
        attributes=_ATTRIBUTES,
    ),
    _tool("get_order_details", "Read the order.", ["order_id"], order_id="The order."),
    _tool("finish_order", "Send the order to be made.", ["order_id"], order_id="The order."),
]

TASKMASTER_ORDER_TOOLS = [
    *TASKMASTER_TOOLS,
    _tool(
        "remove_order_item",
        "Take a drink off the order.",
        ["order_item_id"],
        order_item_id="The drink in the order.",
    ),
    _tool("cancel_order", "Give up the order.", ["order_id"], order_id="The order."),
    _tool("escalate_order", "Hand the customer over to a person."),
    _tool("show_hidden_menu", "Show what is not on the menu."),
    _tool("show_order_screen", "Show the order to the customer."),
]
"""Of graded turns of Taskmaster-4, in which more is called, some of it wrongly."""

_MOVIE, _THEATER, _LOCATION = (
    "The movie's title.",
    "The theater's name.",
    "City, or _AUTOMATIC for where the user is.",
)
TASKMASTER_MOVIE_TOOLS = [
    _tool("resolve_location", "Find the full name of a place.", ["location"], location=_LOCATION),
    _tool("resolve_movie", "Find the full title of a movie.", ["name.movie"], **{"name.movie": _MOVIE}),
    _tool(
        "resolve_theater",
        "Find the full name of a theater.",
        ["name.theater", "location"],
        location=_LOCATION,
        **{"name.theater": _THEATER},
    ),
    _tool(
        "find_movies",
        "List movies that are shown.",
        location=_LOCATION,
        **{
            "name.genre": "Kind of movie.",
            "name.theater": _THEATER,
            "rating.movie": "Its rating, such as PG.",
            "description.other": "Anything else that is wanted.",
        },
    ),
    _tool(
        "find_theaters",
        "List theaters, or those that show a movie.",
        location=_LOCATION,
        **{"name.movie": _MOVIE},
    ),
    _tool(
        "find_showtimes",
        "List the times of a movie in a theater.",
        ["name.movie", "name.theater"],
        **{
            "name.movie": _MOVIE,
            "name.theater": _THEATER,
            "time.preference": "When the user would like to go.",
            "date.showing": "The day.",
            "type.screening": "Such as 3D.",
        },
    ),
    _tool(
        "get_movie_attribute",
        "Look up something about a movie.",
        ["name.movie", "attribute"],
        attribute="What to look up, such as plot or duration.",
        **{"name.movie": _MOVIE},
    ),
    _tool(
        "check_tickets",
        "Ask whether there are tickets.",
        ["name.movie", "name.theater", "num.tickets", "time.showing"],
        **{
            "name.movie": _MOVIE,
            "name.theater": _THEATER,
            "num.tickets": "How many.",
            "time.showing": "When it begins.",
            "date.showing": "The day.",
            "seating": "Where to sit.",
            "time.preference": "When the user would like to go.",
        },
    ),
    _tool(
        "book_tickets",
        "Book tickets.",
        ["name.movie", "name.theater", "num.tickets", "time.showing"],
        **{
            "name.movie": _MOVIE,
            "name.theater": _THEATER,
            "num.tickets": "How many.",
            "time.showing": "When it begins.",
            "date.showing": "The day.",
            "seating": "Where to sit.",
        },
    ),
]
