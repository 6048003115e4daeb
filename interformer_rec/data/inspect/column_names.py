"""What a column's name tells. In: names; out: guesses, which a look at the values has to confirm. For `inspect`."""

import re


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# A 0/1 column with one of these words is feedback of the row: a label, or something that leaks one. Best label first.
FEEDBACK = _listed(
    """label target click clicked clicks clk conversion converted convert purchase purchased buy bought order ordered
    like liked view viewed watched watch played play finish finished complete completed install installed download
    downloaded subscribe subscribed cart collect favorite favourite follow followed forward share shared comment
    commented hate dislike skip rating rated engagement reward response y"""
)
OF_SOMEBODY = _listed("user item author video ad ads ctx context")  # user_is_follower: a field, no feedback
ACTS = set(_listed("play played watch watched view viewed read reading listen listened stay dwell"))
AMOUNTS = set(_listed("time duration ms sec seconds ratio percent rate progress playtime"))
OUTCOMES = set(_listed("rating stars dwell playtime"))
HISTORY = set(
    _listed("hist history histories seq sequence sequences past prev previous recent last behavior behaviour")
)
# likeliest first
USER = _listed("user uid userid member customer visitor viewer account buyer household device session")
NUMERIC = set(
    _listed(
        """num count counts cnt number nb price amount cost days hours minutes seconds ms duration length len size width
        height score rate ratio ctr avg mean total sum freq frequency weight age words tokens chars characters sentences
        quantity qty distance volume income salary balance temperature percent pct depth visits impressions"""
    )
)
# Whatever else a name with one of these says, the values are names of things: price_id, age_group, size_code.
CODED = set(
    _listed(
        """id ids uid uuid key code codes hash index idx zip postcode group bucket bin band level segment cluster class
        type kind category cat flag name"""
    )
)
TIME = set(_listed("time timestamp ts date datetime day dt ms at"))
EVENT_TIME = set(_listed("time timestamp ts"))
# A time with one of these is a property of the user or the item, not the moment of the row.
OF_A_THING = set(
    _listed(
        """birth birthday born release released create created creation upload uploaded publish published publication
        register registered registration signup join joined first start started end expire expiry update updated hist
        history last previous next"""
    )
)
ENDINGS = set(_listed("id ids list key code"))


def words(name: str) -> tuple[str, ...]:
    """`histItemID_2` -> (hist, item, id, 2)."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return tuple(word.lower() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word)


def stem(name: str) -> tuple[str, ...]:
    """What the ids are of: history words, id endings and plural s removed. hist_item_ids, item_id -> (item,)."""
    parts = [word for word in words(name) if word not in HISTORY]
    while len(parts) > 1 and parts[-1] in ENDINGS:
        parts.pop()
    return tuple(_singular(word) for word in parts)


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def feedback_rank(name: str) -> int | None:
    """Position in FEEDBACK of the best word (0 is the most label-like), None if the name is no feedback's."""
    parts = words(name)
    if not parts or parts[0] in OF_SOMEBODY:
        return None
    ranks = [FEEDBACK.index(word) for word in parts if word in FEEDBACK]
    return min(ranks) if ranks else None


def is_feedback_alone(name: str) -> bool:
    """Whether the name says nothing but feedback: label, isClicked, rating. Whatever its values, it is no input."""
    parts = [word for word in words(name) if word not in ("is", "has", "was", "did")]
    return bool(parts) and set(parts) <= set(FEEDBACK)


def is_index(name: str) -> bool:
    """pandas' index of the rows, which it writes beside the columns."""
    return re.fullmatch(r"__index_level_\d+__|Unnamed: \d+", name) is not None


def last_word(name: str) -> str:
    """Empty if the name has no Latin letter or digit."""
    return words(name)[-1] if words(name) else ""


def is_outcome(name: str) -> bool:
    """Amounts that exist only after the row's impression: rating, play_time, watch_ratio, dwell."""
    parts = set(words(name))
    return bool(OUTCOMES & parts or (ACTS & parts and AMOUNTS & parts))


def is_row_time(name: str) -> bool:
    """Whether a column of times can be the moment of the row, by its name: time_ms, date; not release_date."""
    parts = set(words(name))
    return not parts & OF_A_THING and words(name)[:1] not in {(one,) for one in OF_SOMEBODY}


def is_numeric(name: str) -> bool:
    """Whether the name says that the values count or measure: num_words, price; not price_id."""
    parts = set(words(name))
    return bool(parts & NUMERIC) and not parts & CODED


def is_coded(name: str) -> bool:
    """Whether the name says that the values are names of things: item_id, zip_code, age_group."""
    return bool(set(words(name)) & CODED)


def user_rank(name: str) -> int | None:
    """Position in USER if the name is that of a user's key: user_id, uid, userId, member, ..."""
    parts = words(name)
    if not parts or parts[0] not in USER or not set(parts[1:]) <= {"id", "key", "hash"}:
        return None
    return USER.index(parts[0])


def common_words(names: list[str]) -> tuple[str, ...]:
    """Leading words that all names share; () for a single name whose first word is no history word."""
    split = [words(name) for name in names]
    if len(split) == 1:
        return split[0][:1] if len(split[0]) > 1 and split[0][0] in HISTORY else ()
    shared = 0
    while all(len(parts) > shared for parts in split) and len({parts[shared] for parts in split}) == 1:
        shared += 1
    return split[0][:shared]
