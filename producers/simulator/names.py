"""Words from which invented artists and titles are made; each genre has its own sound."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """An artist is `first second`; a title is `mood thing`."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    mood: tuple[str, ...]
    thing: tuple[str, ...]


def _words(first: str, second: str, mood: str, thing: str) -> Words:
    return Words(*(tuple(text.split()) for text in (first, second, mood, thing)))


GENRES: dict[str, Words] = {
    "pop": _words(
        "Ava Mila Stella Cherry Golden Neon Poppy Luna",
        "Hart Sunday Glow Kiss Starling Candy Bloom Lane",
        "Happy Sweet Electric Crazy Summer Shiny Lonely Forever",
        "Love Heart Dance Girl Tonight Kisses Sunshine Dream",
    ),
    "hip-hop": _words(
        "Lil Big Young MC DJ King Yung Boss",
        "Cipher Flow Block Rhyme Trap Verse Capital Dollar",
        "Hustle Street Dirty Fast Cold Real Late Heavy",
        "Money Beats Cypher Bars Hood Drip Rap Crown",
    ),
    "rock": _words(
        "The Iron Red Broken Wild Black Electric Silver",
        "Riders Wolves Guitars Engines Rebels Stones Highway Thunder",
        "Burning Wild Loud Broken Restless Angry Midnight Rolling",
        "Road Fire Rebel Riot Guitar Storm Machine Stone",
    ),
    "electronic": _words(
        "DJ Synth Digital Neon Analog Quantum Cyber Deep",
        "Pulse Circuit Wave Voltage Signal Modular Grid Club",
        "Electric Hypnotic Neon Infinite Deep Acid Solar Euphoric",
        "Bass Rave Pulse Drop Machine Techno House Energy",
    ),
    "r&b": _words(
        "Silk Velvet Honey Jade Satin Raven Ella Marvin",
        "Soul Rivers Monroe Heart Moon Amour Grace Saint",
        "Slow Tender Smooth Late Silky Deep Blue Sensual",
        "Touch Soul Groove Body Lover Whisper Night Feeling",
    ),
    "latin": _words(
        "Los La El Daddy Reina Bad Rico Señorita",
        "Fuego Sol Luna Barrio Calor Ritmo Tigre Palma",
        "Loca Caliente Dulce Bella Salvaje Tropical Eterna Suave",
        "Noche Fiesta Playa Corazón Salsa Bachata Reggaeton Vida",
    ),
    "country": _words(
        "Hank Dolly Wyatt Loretta Cole Tennessee Dusty Whiskey",
        "Creek Boots Cash Ranch Prairie Mason Rodeo Hollow",
        "Dusty Lonesome Southern Honky Backroad Wild Faded Old",
        "Truck Whiskey Highway Cowboy Porch Town Boots River",
    ),
    "jazz": _words(
        "Miles Ella Duke Thelonious Blue Chet Nina Dizzy",
        "Quartet Trio Quintet Coleman Ensemble Ellington Baker Horn",
        "Blue Smoky Autumn Round Mellow Swinging Cool Late",
        "Blues Swing Waltz Serenade Nocturne Saxophone Bop Ballad",
    ),
    "classical": _words(
        "Vienna Royal Amadeus Clara Johann Baltic Sofia Chamber",
        "Philharmonic Orchestra Quartet Ensemble Sinfonia Consort Players Camerata",
        "Quiet Slow Gentle Solemn Bright Grand Minor Major",
        "Sonata Prelude Symphony Nocturne Concerto Adagio Fugue Etude",
    ),
    "metal": _words(
        "Iron Black Grave Blood Steel Infernal Obsidian Doom",
        "Reaper Legion Maiden Throne Serpent Crypt Hammer Abyss",
        "Burning Dark Brutal Endless Savage Frozen Bloody Cursed",
        "Death War Rage Hell Blade Chaos Wrath Fury",
    ),
    "indie": _words(
        "Paper Quiet Northern Foxes Little Winter Pale Velvet",
        "Parade Lakes Kites Cabin Atlas Sweaters Harbor Ghosts",
        "Lonely Quiet Faded Hazy Tired Yellow Distant Sad",
        "Winter Rooms Postcard Letters Bicycle Autumn Windows Ghost",
    ),
    "lo-fi": _words(
        "Sleepy Rainy Mellow Cloudy Cozy Dusty Tokyo Midnight",
        "Tapes Cat Cafe Beats Window Pillow Garden Study",
        "Rainy Sleepy Calm Soft Dreamy Slow Warm Gentle",
        "Study Rain Coffee Sleep Chill Clouds Tape Focus",
    ),
}
"""Every genre that a scenario may name."""
