"""What is for sale, and what was offered for it."""

from typing import Final, Literal

import msgspec


class Ware(msgspec.Struct, frozen=True):
    """A listing; `drawing` names one of `things.LISTED`, prices are in cents."""

    key: str
    owner: str
    drawing: str
    title: str
    category: str
    state: str
    price: int | None
    description: str
    location: str
    currency: str = "EUR"
    exchange: str | None = None
    loved_by: tuple[str, ...] = ()
    hours_ago: int = 30


class Bid(msgspec.Struct, frozen=True):
    """An offer, and what became of it; `ware` and `swap` are keys of wares, `counter` what the seller would take."""

    ware: str
    buyer: str
    amount: int | None
    message: str
    becomes: Literal["pending", "countered", "accepted", "rejected", "withdrawn"] = "pending"
    swap: str | None = None
    counter: int | None = None
    answer: str | None = None
    hours_ago: float = 6


WARES: Final = (
    Ware(
        "folk", "lea_moreau", "acoustic_guitar", "Guitare folk table épicéa, 1994", "guitars", "good", 38000,
        "Table massive, caisse acajou. Un son sombre et rond, quelques traces de capodastre. Housse comprise.",
        "Paris 20e", loved_by=("gaspard_r", "clara_d", "old_joe"), hours_ago=70,
    ),
    Ware(
        "strat", "old_joe", "electric_guitar", "Red S-type, rewired, plays itself", "guitars", "good", 52000,
        "Hand-wound pickups, fresh frets, one cigarette burn that was there when I got it. Comes with a hard case.",
        "Sheffield", currency="GBP", loved_by=("yuki_s", "lea_moreau"), hours_ago=52,
    ),
    Ware(
        "bass", "amara_o", "bass_guitar", "Short-scale bass, walnut, flatwounds", "basses", "like_new", 61000,
        "Thumpy and light. Selling because my other short-scale is jealous. Set-up last month.",
        "Bristol", currency="GBP", loved_by=("malik_b",), hours_ago=47,
    ),
    Ware(
        "snare", "tom_weller", "snare_drum", "Birch snare 14x6.5, has seen weddings", "drums", "good", 17500,
        "Cracks like a very musical door. New batter head, original wires. Sticks not included, stories are.",
        "Bristol", "GBP", "A brass piccolo snare", ("amara_o", "nadia_v"), 40,
    ),
    Ware(
        "poly", "nadia_v", "synthesizer", "Analogue poly synth, 8 voices (one sticky key)", "synths", "fair", 48000,
        "Bought in 2019, loved since. The sticky key is the low D. Power supply and flight case included.",
        "Leeds", loved_by=("ines_k", "malik_b", "yuki_s", "sam_studio"), hours_ago=66,
    ),
    Ware(
        "piano", "sam_studio", "piano", "Piano droit années 60, accordé en janvier", "keys", "fair", 90000,
        "Un piano de studio, feutres neufs, touche douce. À emporter : deuxième étage, café offert.",
        "Nantes", loved_by=("clara_d",), hours_ago=33,
    ),
    Ware(
        "violin", "clara_d", "violin", "Violon d'étude 4/4 avec archet et étui", "strings", "like_new", 32000,
        "Idéal pour débuter à l'âge adulte : réglé par un luthier, cordes neuves. Une heure de cours offerte avec.",
        "Lyon", loved_by=("gaspard_r",), hours_ago=28,
    ),
    Ware(
        "amp", "clara_d", "amplifier", "Petit ampli à lampes 15 W, treillis beige", "amps", "good", 41000,
        "Il dort chez moi depuis que mon frère joue de la flûte. Lampes changées l'an dernier, il chauffe, il chante.",
        "Lyon", exchange="Un bon micro de chant", loved_by=("lea_moreau", "old_joe"), hours_ago=26,
    ),
    Ware(
        "fuzz", "yuki_s", "pedal", "Orange fuzz, germanium, sings when warm", "effects", "like_new", 14500,
        "Built by hand in a kitchen. Needs five minutes to wake up, like all of us. True bypass.",
        "London", "GBP", "A quiet delay", ("old_joe", "malik_b"), 21,
    ),
    Ware(
        "mic", "malik_b", "microphone", "Large-diaphragm condenser, boxed", "microphones", "good", 23000,
        "Used on Late Train. Comes with the cradle, the wooden box and a pop shield of doubtful origin.",
        "Paris 18e", exchange="Records, or a small amp", loved_by=("nadia_v", "sam_studio"), hours_ago=18,
    ),
    Ware(
        "deck", "nadia_v", "turntable", "Direct-drive turntable, new belt of luck", "dj", "good", 29000,
        "It has no belt, that was a joke. Pitch fader cleaned, new cartridge. Price is for one; I have two.",
        "Leeds", loved_by=("malik_b",), hours_ago=12,
    ),
    Ware(
        "crate", "malik_b", "records", "Crate of 40 soul and funk LPs", "records", "fair", 12000,
        "Sleeves tired, grooves fine. I sampled them all, now somebody should listen to them.",
        "Paris 18e", loved_by=("amara_o", "tom_weller", "nadia_v"), hours_ago=9,
    ),
    Ware(
        "musette", "gaspard_r", "score", "Recueil : 60 valses et javas, annoté", "scores", "good", 1800,
        "Annotations au crayon de mon professeur, qui avait raison sur tout sauf le tempo.",
        "Angers", loved_by=("clara_d", "lea_moreau"), hours_ago=5,
    ),
)  # fmt: skip
BIDS: Final = (
    Bid(
        "mic",
        "nadia_v",
        20000,
        "200 today, and I bring the coffee?",
        "countered",
        None,
        21500,
        "215 and good coffee.",
        2,
    ),
    Bid("amp", "lea_moreau", 38000, "Je peux venir l'essayer samedi, je paie comptant.", hours_ago=0.5),
    Bid("amp", "malik_b", None, "Un micro de chant contre l'ampli ?", "rejected", "mic", None, None, 20),
    Bid("poly", "ines_k", 45000, "J'apporte le coton-tige.", hours_ago=4),
    Bid("violin", "amara_o", 30000, "For a student of mine, she starts in March.", "accepted", hours_ago=14),
    Bid(
        "crate",
        "tom_weller",
        10000,
        "A hundred, and I'll play them at the next soul night.",
        "pending",
        hours_ago=3,
    ),
    Bid("fuzz", "malik_b", 12000, "120, it would be happy in the studio.", "withdrawn", hours_ago=16),
)
COMMENTS: Final = (  # piece, who, when (ms), what
    ("late-train", "sam_studio", 2_400, "that bass note"),
    ("late-train", "nadia_v", 9_000, "the hat drags exactly as much as it should"),
    ("late-train", "lea_moreau", 15_500, "on dirait la ligne B à minuit"),
    ("matin-a-belleville", "gaspard_r", 3_000, "Quelle attaque !"),
    ("matin-a-belleville", "clara_d", 14_000, "le camion poubelle 😂"),
    ("matin-a-belleville", "sam_studio", 18_200, "la reprise est superbe"),
    ("basalte", "yuki_s", 6_000, "where does this drop come from"),
    ("basalte", "malik_b", 19_000, "winner"),
    ("four-floors", "tom_weller", 7_800, "there it is"),
    ("petite-valse", "lea_moreau", 4_000, "je danse dans ma cuisine"),
    ("petite-valse", "clara_d", 12_500, "cette modulation !"),
    ("sketch-for-drums", "malik_b", 8_900, "bar four. stolen."),
    ("sketch-for-drums", "amara_o", 13_000, "tight"),
)
LIKES: Final = {
    "late-train": ("nadia_v", "sam_studio", "lea_moreau", "yuki_s", "amara_o"),
    "matin-a-belleville": ("gaspard_r", "clara_d", "sam_studio", "malik_b"),
    "basalte": ("yuki_s", "malik_b", "nadia_v"),
    "four-floors": ("malik_b", "tom_weller", "ines_k"),
    "petite-valse": ("lea_moreau", "clara_d", "old_joe", "amara_o"),
    "sketch-for-drums": ("malik_b", "amara_o", "nadia_v", "old_joe", "yuki_s"),
}
REPOSTS: Final = (("sam_studio", "late-train"), ("clara_d", "petite-valse"), ("malik_b", "sketch-for-drums"))
PLAYLISTS: Final = (  # whose, title, description, pieces
    (
        "lea_moreau",
        "Dimanche matin",
        "Pour le café et les fenêtres ouvertes.",
        ("matin-a-belleville", "petite-valse", "basalte"),
    ),
    ("nadia_v", "Warm-up", "From slow to stairs.", ("late-train", "sketch-for-drums", "four-floors")),
    (
        "sam_studio",
        "Écoutes du jeudi",
        "Ce qu'on m'a envoyé cette semaine.",
        ("late-train", "matin-a-belleville", "sketch-for-drums"),
    ),
)
