"""Answers without a model: words in the names of artist, track and album point to genre and mood, and say how surely.

Valence and energy of genres and moods follow Russell's circumplex (1980): two axes, sad-happy and calm-excited.
"""

from __future__ import annotations

import re
from collections import Counter

from enrichment.question import Answer, Question

VERSION = "rules-1"

_GENRE_WORDS = {
    "pop": "pop kiss candy heart girl tonight dance sweet summer golden sunshine cherry glow sunday shiny hart star",
    "hip-hop": "mc lil yung rap hip hop trap cypher cipher hood hustle bars verse rhyme flow street money drip beats",
    "rock": "rock guitar guitars riders rebel rebels riot engines highway stones stone thunder rolling wolves storm",
    "electronic": "dj synth techno house rave acid electro edm remix bass pulse circuit voltage modular digital cyber "
    "quantum drop signal wave analog euphoric hypnotic",
    "r&b": "soul silk velvet groove lover silky sensual body touch whisper satin tender slow honey jade amour grace",
    "latin": "los las reggaeton salsa bachata fiesta corazón corazon noche playa fuego caliente ritmo calor barrio "
    "loca bella dulce vida sol daddy reina tropical",
    "country": "country truck whiskey cowboy boots rodeo honky southern prairie ranch tennessee porch creek backroad "
    "hank dolly lonesome",
    "jazz": "jazz blues swing bop trio quartet quintet saxophone horn serenade ballad waltz smoky swinging miles duke",
    "classical": "sonata symphony symphony concerto orchestra philharmonic prelude fugue etude adagio nocturne opus "
    "chamber sinfonia camerata consort minor major allegro requiem",
    "metal": "metal death doom grave reaper hell blade brutal cursed infernal serpent abyss wrath war blood bloody "
    "legion maiden crypt rage savage chaos fury",
    "indie": "indie paper foxes kites cabin postcard letters bicycle sweaters windows ghosts ghost lakes parade hazy "
    "northern pale rooms winter",
    "lo-fi": "lo-fi lofi lo fi study chill rain rainy sleepy cozy cafe tapes tape pillow coffee mellow cloudy clouds "
    "focus cat dreamy",
    "folk": "folk acoustic banjo fiddle hymn lullaby traditional",
    "podcast": "podcast episode interview chapter audiobook",
}
_MOOD_WORDS = {
    "energetic": "electric fast wild burning fire energy rave riot power run loud storm thunder euphoric drop acid",
    "happy": "happy sunshine summer sweet dance fiesta party golden shiny joy smile bright glow swinging sun sol",
    "romantic": "love lover kiss kisses heart touch tender amour body corazón corazon bella dulce sensual serenade",
    "calm": "calm quiet gentle soft sleepy slow chill rain rainy warm dreamy adagio prelude mellow smooth nocturne",
    "melancholic": "sad lonely lonesome faded tired blue blues broken winter ghost distant late autumn ballad minor",
    "angry": "rage wrath fury death war hell brutal angry savage bloody cursed chaos hate",
}
_AFFECT = {
    "energetic": (0.65, 0.90),
    "happy": (0.90, 0.65),
    "romantic": (0.70, 0.40),
    "calm": (0.60, 0.15),
    "melancholic": (0.20, 0.30),
    "angry": (0.15, 0.90),
    "neutral": (0.50, 0.50),
}
_GENRE_AFFECT = {
    "pop": (0.75, 0.65),
    "hip-hop": (0.55, 0.70),
    "rock": (0.55, 0.75),
    "electronic": (0.65, 0.85),
    "r&b": (0.60, 0.40),
    "latin": (0.80, 0.75),
    "country": (0.60, 0.50),
    "jazz": (0.55, 0.35),
    "classical": (0.50, 0.25),
    "metal": (0.25, 0.95),
    "indie": (0.45, 0.45),
    "lo-fi": (0.55, 0.20),
    "folk": (0.50, 0.30),
}
_BY_GENRE = {genre: frozenset(words.split()) for genre, words in _GENRE_WORDS.items()}
_BY_MOOD = {mood: frozenset(words.split()) for mood, words in _MOOD_WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*", re.UNICODE)


def answer(question: Question) -> Answer:
    """The same question gives the same answer. Names without a known word give genre `unknown`, mood `neutral`."""
    words = Counter(_WORD.findall(f"{question.track_name} {question.artist_name} {question.album_name}"))
    genre, confidence = _most(words, _BY_GENRE, "unknown")
    mood, mood_share = _most(words, _BY_MOOD, "")
    valence, energy = _GENRE_AFFECT.get(genre, _AFFECT["neutral"])
    if mood:
        told = _AFFECT[mood]
        weight = 0.5 + 0.5 * mood_share
        valence, energy = valence + weight * (told[0] - valence), energy + weight * (told[1] - energy)
    else:
        mood = _nearest_mood(valence, energy) if genre != "unknown" else "neutral"
    return Answer(
        mood=mood,
        valence=round(valence, 3),
        energy=round(energy, 3),
        genre=genre,
        genre_confidence=round(confidence, 3),
        context=_context(genre, mood, valence, energy),
        provenance="rules",
        model=VERSION,
    )


def _most(words: Counter[str], lists: dict[str, frozenset[str]], otherwise: str) -> tuple[str, float]:
    """The list with most hits, and its share of all hits; one stray word is never taken for certain."""
    hits = {name: sum(count for word, count in words.items() if word in known) for name, known in lists.items()}
    total = sum(hits.values())
    if not total:
        return otherwise, 0.0
    best = max(hits, key=lambda name: hits[name])
    return best, hits[best] / (total + 1)


def _nearest_mood(valence: float, energy: float) -> str:
    return min(_AFFECT, key=lambda mood: (_AFFECT[mood][0] - valence) ** 2 + (_AFFECT[mood][1] - energy) ** 2)


def _context(genre: str, mood: str, valence: float, energy: float) -> str:
    if mood == "romantic":
        return "romance"
    if energy >= 0.8:
        return "workout"
    if energy >= 0.6:
        return "party" if valence >= 0.6 else "commute"
    if genre in ("classical", "lo-fi"):
        return "sleep" if energy <= 0.15 else "focus"
    return "relax" if energy <= 0.4 else "background"
