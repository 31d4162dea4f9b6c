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
