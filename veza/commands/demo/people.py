"""Who lives in the demonstration: twelve musicians, French and English, and whom they follow."""

from typing import Final

import msgspec

from veza.commands.demo.faces import Looks


class Musician(msgspec.Struct, frozen=True):
    """One of them; `follows` are usernames."""

    username: str
    first_name: str
    last_name: str
    bio: str
    looks: Looks
    follows: tuple[str, ...] = ()


PEOPLE: Final = (
    Musician(
        "lea_moreau", "Léa", "Moreau",
        "Guitare acoustique et chant à Belleville. Je cherche une contrebasse pour un trio.",
        Looks("#f1c9a5", "#6b3f1d", "#3a6ea5", "#f4d35e", "long"),
        ("gaspard_r", "ines_k", "malik_b", "radio_veza", "clara_d"),
    ),
    Musician(
        "malik_b", "Malik", "Benali",
        "Beats after midnight. MPC, Rhodes, too many records.",
        Looks("#8d5a3c", "#1d1412", "#e07a5f", "#81b29a", "short", ("beard",)),
        ("nadia_v", "ines_k", "lea_moreau", "yuki_s", "radio_veza"),
    ),
    Musician(
        "ines_k", "Inès", "Karoui",
        "Synthés modulaires, field recordings, lenteur. Atelier ouvert le samedi à Marseille.",
        Looks("#d9a177", "#2a1a14", "#6d597a", "#b56576", "bun", ("glasses",)),
        ("malik_b", "yuki_s", "nadia_v"),
    ),
    Musician(
        "nadia_v", "Nadia", "Volkova",
        "House and techno, Leeds. Selling what I no longer dance to.",
        Looks("#f6d7bd", "#c9a14a", "#2b2d42", "#ef8354", "bun"),
        ("malik_b", "ines_k", "radio_veza", "tom_weller"),
    ),
    Musician(
        "gaspard_r", "Gaspard", "Rivière",
        "Accordéon diatonique, bals et mariages. Je répare aussi les soufflets.",
        Looks("#eec1a0", "#8b8680", "#7f5539", "#b7b7a4", "short", ("beard", "glasses")),
        ("lea_moreau", "clara_d", "old_joe"),
    ),
    Musician(
        "tom_weller", "Tom", "Weller",
        "Drummer for hire in Bristol. Snare collector, recovering.",
        Looks("#f0c8a8", "#a44a1f", "#386641", "#a7c957", "short", ("cap",)),
        ("old_joe", "amara_o", "nadia_v", "lea_moreau"),
    ),
    Musician(
        "amara_o", "Amara", "Okafor",
        "Bass player, teacher, arranger. I read every clef.",
        Looks("#5d3a26", "#120d0a", "#ffd166", "#118ab2", "curls"),
        ("tom_weller", "clara_d", "malik_b", "lea_moreau", "old_joe"),
    ),
    Musician(
        "clara_d", "Clara", "Delmas",
        "Violon, quatuor et musique trad. Cours pour adultes débutants à Lyon.",
        Looks("#f7dcc4", "#3f2a1d", "#9b2226", "#e9d8a6", "long", ("glasses",)),
        ("gaspard_r", "amara_o", "lea_moreau"),
    ),
    Musician(
        "yuki_s", "Yuki", "Sato",
        "Sound design for games. Pedals in, worlds out.",
        Looks("#f2d3b3", "#15151a", "#4361ee", "#cdb4db", "short", ("glasses",)),
        ("ines_k", "malik_b"),
    ),
    Musician(
        "old_joe", "Joe", "Hartley",
        "Forty years of blues in other people's bands. Valve amps only.",
        Looks("#e8b796", "#d9d9d9", "#283618", "#dda15e", "none", ("beard", "cap")),
        ("tom_weller", "amara_o"),
    ),
    Musician(
        "sam_studio", "Samuel", "Petit",
        "Ingé son et mixage à Nantes. J'écoute vos maquettes le jeudi.",
        Looks("#c98f66", "#2f1b12", "#264653", "#2a9d8f", "curls", ("beard",)),
        ("lea_moreau", "malik_b", "clara_d", "nadia_v"),
    ),
    Musician(
        "radio_veza", "Radio", "Veza",
        "What was uploaded here, one after the other, all day and all night.",
        Looks("#f3b97f", "#5f0f40", "#0f4c5c", "#fb8b24", "long", ("glasses",)),
        ("lea_moreau", "malik_b", "ines_k", "nadia_v", "gaspard_r", "tom_weller"),
    ),
)  # fmt: skip
SHOWN: Final = ("lea_moreau", "malik_b", "nadia_v")  # whose logins are printed
ANNOUNCER: Final = "radio_veza"
