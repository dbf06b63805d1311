"""The pictures of a report, one function each; saving and naming them is `figures`' work."""
