"""What was said: rooms with the talk of some days, letters between two, and what people say now and then.

A line is (minutes since the line before it, who, what); `^` before the text answers the line before, and emojis behind
a bar are reactions to it. Talk counts back from now: its last line is as old as `ago` minutes.
"""

from typing import Final

import msgspec

Line = tuple[int, str, str]


class Talk(msgspec.Struct, frozen=True):
    """What was said in a room; the first to speak made it. `pinned` is the number of a line."""

    room: str
    about: str
    ago: int
    lines: tuple[Line, ...]
    pinned: int | None = None


class Letters(msgspec.Struct, frozen=True):
    """What two people wrote each other; `who` of a line is one of them."""

    between: tuple[str, str]
    ago: int
    lines: tuple[Line, ...]


TALK: Final = (
    Talk("general", "", 7, (
        (0, "lea_moreau", "Salut tout le monde ! Nouvelle ici, guitare et chant, à Paris. | 👋👋👋"),
        (4, "tom_weller", "Welcome! Drums, Bristol. We don't bite, except on tempo. | 😂"),
        (9, "gaspard_r", "Bienvenue Léa. Si tu cherches un accordéon pour ton trio, je passe à Paris en mars."),
        (3, "lea_moreau", "^Avec plaisir, je t'écris !"),
        (610, "old_joe", "Anyone else think the 70s spring reverbs sound better when it's cold?"),
        (12, "amara_o", "^Only the ones that buzz. So, all of them. | 😂😂"),
        (1330, "sam_studio", "Jeudi, écoute de maquettes : envoyez un titre. Je suis gentil. | 🎧🎧🎧"),
        (26, "malik_b", "@sam_studio just uploaded Late Train, be honest about the low end"),
        (41, "sam_studio", "^Kick and bass fight at 60 Hz, give one of them the room. The Rhodes is lovely. | 🙏"),
        (900, "clara_d", "Petit bal trad samedi à Lyon, entrée libre, parquet qui grince compris. | 💃💃"),
        (14, "gaspard_r", "^J'en suis, avec la valse."),
        (700, "nadia_v", "Radio Veza is on air again, tune in while you practise"),
        (5, "yuki_s", "^Already on. Great for cleaning pots. The potentiometer kind. | 😄"),
        (38, "tom_weller", "Who's around tonight for a listening party in #gear?"),
        (6, "malik_b", "^me, after nine"),
    ), 6),
    Talk("gear", "Amps, pedals, strings, sticks: what works, what broke, what it costs.", 19, (
        (0, "old_joe", "House rule: no photo, no opinion. | 👍👍"),
        (220, "yuki_s", "Fuzz before or after the wah? Asking for a friend with a noise complaint."),
        (3, "old_joe", "^After. Then before. Then sell the wah."),
        (17, "malik_b", "before, buffered, don't @ me | 😂"),
        (860, "tom_weller", "Put my spare snare on the market. Birch, 14x6.5, has seen weddings."),
        (12, "amara_o", "^That's the one from the Exchange gig? It cracks like a door."),
        (4, "tom_weller", "^A very musical door. | 🚪"),
        (1290, "nadia_v", "Is 480 for a 2019 analogue poly with one sticky key reasonable? It's in the market"),
        (31, "ines_k", "Une touche collante, c'est dix minutes et un coton-tige. C'est un bon prix. | 🙌"),
        (700, "lea_moreau", "Cordes : bronze phosphoreux ou 80/20 pour un vieux folk un peu sombre ?"),
        (9, "old_joe", "^80/20 if he's gloomy. Phosphor if you are."),
        (45, "clara_d", "^Phosphore, et de la colophane pour l'humeur."),
    ), 0),
    Talk("beats", "Loops, grooves, BPMs. Bring a kick.", 43, (
        (0, "malik_b", "Beat swap #12: 78 bpm, D minor, one sample of rain. Post by Sunday. | 🌧️🔥"),
        (180, "nadia_v", "mine is at 124, it rained faster here | 😂"),
        (75, "tom_weller", "Recorded a groove for whoever wants it: Sketch for Drums No. 3. Steal it. | 🥁🥁🥁"),
        (22, "malik_b", "^stolen. that fill in bar four 🔥"),
        (1500, "yuki_s", "I put bar 4 through a granular delay and now it's a flock of birds"),
        (8, "malik_b", "^post the birds"),
        (620, "ines_k", "J'ai ralenti la pluie de Malik huit fois. Ça s'appelle Basalte maintenant. | 🖤🖤"),
        (15, "malik_b", "^ok that's the winner"),
    )),
    Talk("atelier-chanson", "On écrit, on se relit, on recommence. Textes et mélodies en français.", 95, (
        (0, "gaspard_r", "Qui a une rime pour « soufflet » qui ne soit pas « buffet » ?"),
        (7, "clara_d", "« S'il te plaît », mal prononcé. | 😂"),
        (11, "lea_moreau", "« Reflet » ! Et ça fait une image."),
        (2, "gaspard_r", "^Adopté. Deuxième couplet sauvé. | 🙏❤️"),
        (2050, "lea_moreau", "Matin à Belleville est en ligne, fenêtre ouverte : camion poubelle à 0:14."),
        (18, "sam_studio", "^Garde-le, il est en rythme. | 😄😄"),
        (480, "clara_d", "On se fait une relecture dimanche 17 h ?"),
        (25, "gaspard_r", "^Oui. J'apporte la valse et des madeleines. | 🧁"),
    )),
    Talk("petites-annonces", "Cherche batteur, loue local, prête pédale.", 160, (
        (0, "amara_o", "Looking for a pianist, Bristol, soul covers, paid gigs in March."),
        (340, "sam_studio", "Local de répète à partager à Nantes, 25 m², batterie sur place, 90 €/mois. | 👀"),
        (95, "gaspard_r", "Je donne des partitions de musette (deux cartons). À venir chercher à Angers."),
        (30, "clara_d", "^Je prends ! Je passe mercredi."),
        (1700, "nadia_v", "Spare slot for a live set, 24th, Leeds. 40 minutes, decent monitors, bad coffee."),
    )),
)  # fmt: skip
LETTERS: Final = (
    Letters(("lea_moreau", "gaspard_r"), 240, (
        (0, "lea_moreau", "Bonjour Gaspard ! Pour le trio : guitare, contrebasse, accordéon. Tu serais partant ?"),
        (25, "gaspard_r", "Mille fois oui. J'ai trois valses et une java qui attendent."),
        (4, "lea_moreau", "Parfait. Je t'envoie la grille de Matin, dis-moi si la tonalité te va."),
        (610, "gaspard_r", "La mineur, mon doigt préféré. On répète le 12 mars ?"),
        (8, "lea_moreau", "C'est noté 🎶"),
    )),
    Letters(("malik_b", "nadia_v"), 130, (
        (0, "nadia_v", "that Rhodes on Late Train, is it for sale or just for tears"),
        (3, "malik_b", "just for tears. but the mic is on the market"),
        (1, "nadia_v", "sending you an offer, be kind"),
        (16, "malik_b", "kind-ish"),
    )),
    Letters(("tom_weller", "amara_o"), 620, (
        (0, "amara_o", "You free on the 24th? Soul night, three sets."),
        (41, "tom_weller", "If I can bring the birch snare. If it's not sold by then."),
        (2, "amara_o", "Then I hope nobody buys it 😄"),
    )),
    Letters(("clara_d", "lea_moreau"), 45, (
        (0, "clara_d", "Pour l'ampli : fais ton offre, je te réponds ce soir. Tu veux l'essayer avant ?"),
        (9, "lea_moreau", "Oh oui, je suis à Lyon samedi pour le bal !"),
    )),
)  # fmt: skip
# What is said while the demonstration runs, in this order and then again.
NOW_AND_THEN: Final = (
    ("general", "malik_b", "made it, what are we listening to?"),
    ("gear", "yuki_s", "Power supply question: is humming in B flat normal?"),
    ("gear", "old_joe", "B flat is the best it can do. Change the cable."),
    ("beats", "nadia_v", "new kick, who dis"),
    ("general", "lea_moreau", "Quelqu'un a une bonne recette de thé pour la voix ? Répète demain."),
    ("general", "clara_d", "Thym, miel, citron. Et se taire une heure, mais ça personne n'y arrive."),
    ("atelier-chanson", "gaspard_r", "La valse a un troisième couplet ! Avec un reflet dedans."),
    ("beats", "tom_weller", "Trying 5/4 today. The neighbours are counting along."),
    ("general", "sam_studio", "Les écoutes de jeudi sont pleines, je rouvre des places lundi."),
    ("petites-annonces", "amara_o", "Still looking for that pianist. Bring your left hand."),
    ("gear", "ines_k", "Le coton-tige a marché, la touche est libre."),
    ("general", "radio_veza", "Next up: everything you uploaded this week."),
)
