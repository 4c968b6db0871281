"""Conversations of everyday life over months, with questions and the messages that answer them.

Twelve stories, such as a move or a training plan, run side by side with small talk. Names, places and amounts are drawn
at random. A line that answers a question begins with `[key]`. The kinds of questions:

- direct: in words of the answer
- paraphrase: shares at most a word or two with the answer
- indirect: shares words with what was said around the answer, none with the answer itself
- corrected: the answer was given twice, and the later one counts
- date: asks when something was, or names a month
- unrelated: shares no word with anything that was said there
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

SLOTS = {
    "friend": "Marisol Tobias Ingrid Kwame Priya Leander Noor Callum Yuki Beatrix Dmitri Esther",
    "sister": "Hanna Odile Renske Tamsin Vera Wilma",
    "pet": "Biscuit Juno Pickle Rosa Tofu Waldo",
    "town": "Leuven Ghent Trieste Bergen Porto Graz Nantes Turku",
    "street": "Mill_Lane Harbour_Road Chapel_Street Orchard_Row Station_Hill",
    "colour": "mustard teal burgundy olive lavender",
    "dish": "moussaka ramen risotto shakshuka goulash pierogi",
    "brand": "Fairlane Quickly Norbo Vanta Stromberg",
    "book": "The_Salt_Path Middlemarch Piranesi Stoner The_Leopard",
    "plant": "fig quince medlar camellia hydrangea",
    "tune": "Clair_de_Lune Gymnopédie Arabesque Solveig's_Song",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "small": "three four five six seven eight nine",
    "hundred": "240 310 385 420 560 675 780",
    "large": "1,150 1,380 1,640 2,200 2,750 3,100",
    "time": "06:40 07:15 08:05 17:20 18:45 19:30",
    "code": "4471 8302 5519 2067 9934 7128",
}

STORIES = """
## flat
U: We finally went to see the place on {street} yesterday. It has a tiny balcony and the kitchen needs work.
A: A balcony counts for a lot in summer. What bothered you about the kitchen?
U: [kitchen] The cupboards are rotten and the landlord wants us to replace them ourselves.
A: Ask for that in writing before you sign anything.
--
U: [rent] Good news, they accepted our offer. We pay {hundred} a month plus heating.
A: Congratulations! That leaves some room for furniture.
U: We want the keys before the end of the month, otherwise we pay twice.
A: Then agree on a handover day with both owners now.
--
U: The removal firm called. They have a slot on {day} and need to know which floor.
A: Which one is it?
U: [floor] Number {small} without a lift, poor men.
A: Tip them well and have cold drinks ready.
--
U: Small change of plan: the owner came down with the price after I complained about the damp.
A: Well negotiated. What is it now?
U: [rent2] It's going to be {hundred2} instead, from the first day on.
A: That pays for a dehumidifier in no time.
--
U: [door] The entry code downstairs is {code}, I keep forgetting it.
A: Noted. Change it once the movers are done.
? direct | What is the entry code downstairs? | door
? paraphrase | How much do we spend on the flat every month? | rent2
? indirect | What did the owner come down to after the damp? | rent2
? corrected | What do we pay a month for the flat now? | rent2
? indirect | Which floor did I tell the removal firm? | floor
? unrelated | How high up do we live? | floor
? indirect | What bothered me about the kitchen on {street}? | kitchen
? unrelated | What was wrong with the room where we cook? | kitchen
? date | Which room needed work in the place we saw in {flat_kitchen}? | kitchen
## dog
U: We picked up a puppy from the shelter! She is nine weeks old and already owns the sofa.
A: How lovely. Have you chosen a name?
U: [name] {pet}, because of the spots around her nose.
A: That suits a puppy. Start with short walks.
--
U: Our little one has been scratching all night. The vet looked at her ears.
A: What did the vet find?
U: [vet] Just mites, thankfully. Drops twice a day for {small} days.
A: Give her a treat right after the drops, so that she does not learn to hide.
--
U: [food] She refuses the {brand} kibble completely and only eats the one with salmon.
A: Mix them and shift the balance over two weeks.
--
U: Training class starts next week. The teacher wants us to bring a long leash and cheese.
A: Cheese is a strong currency. Where is it held?
U: [class] In the old riding hall behind the cemetery, {time} sharp.
A: Arrive early and let her sniff around before it starts.
? indirect | Which name did we choose for the puppy from the shelter? | name
? unrelated | What is my dog called? | name
? indirect | What did the vet find in her ears? | vet
? paraphrase | How many days does she need the drops? | vet
? direct | Which kibble does she refuse? | food
? indirect | Where is the training class for the puppy held? | class
? date | When did we get the puppy? | name
## running
U: I signed up for the half marathon in {town}. My longest run so far is eight kilometres, so wish me luck.
A: That is plenty to build on. When is race day?
U: [race] The second Sunday in October, they start at {time}.
A: Then add a kilometre every week and rest every fourth week.
--
U: My knee hurts going downstairs since the hill session.
A: Which side of it?
U: [knee] Outside, left leg. It goes away when I sit for a while.
A: That sounds like the iliotibial band. Ease off the hills and try foam rolling.
--
U: [shoes] Bought new shoes, the {brand} in {colour}, half a size larger than usual.
A: A bit of room for the toes helps on long distances.
--
U: Did my first run over fifteen kilometres today and felt great, no pain at all.
A: Wonderful! How long did it take?
U: [long] One hour and {small} minutes over my plan, but I walked up the dam.
A: Walking a slope is good pacing, not cheating.
? direct | Which shoes did I buy for running? | shoes
? indirect | Which side of my knee hurt after the hill session? | knee
? unrelated | Which limb gave me trouble while exercising? | knee
? indirect | When is the race day of my half marathon in {town}? | race
? date | On which day did I manage fifteen kilometres for the first time? | long
? paraphrase | What size are my running shoes? | shoes
? date | What did I buy for running in {running_shoes}? | shoes
## job
U: The interview at {brand} was strange. They asked me to estimate how many pianos there are in the country.
A: A classic. How did you answer?
U: [pianos] I said a hundred thousand and they laughed.
A: The reasoning counts more than the number.
--
U: They sent a contract! I start on the first of next month in the analytics team.
A: Congratulations. Who will be your manager?
U: [boss] Somebody named {friend}, who joined from a bank last year.
A: Ask what success looks like after three months.
--
U: [salary] The pay is {large} after tax, a bit less than I hoped for.
A: Ask for a review after the trial period.
--
U: First week is over. I sit by the window, and the coffee is terrible.
A: Bring your own beans, make friends.
U: Everyone eats together on {day}, that's their ritual.
A: A good chance to meet the other teams.
--
U: Quick update, they moved me to a different group, so my boss changed too.
A: Already? Who is it now?
U: [boss2] {friend2}, from the pricing side. Very calm, I like it.
A: A calm manager is worth a lot.
? corrected | Who is my manager at the new job? | boss2
? unrelated | How much do I earn? | salary
? indirect | How did I answer the interview question about the number of pianos in the country? | pianos
? paraphrase | Was I content with the pay at the new company? | salary
? direct | How much is the pay after tax? | salary
? date | When did I tell you that I had been moved to a different group? | boss2
## wedding
U: My sister {sister} is getting married! I am supposed to give a speech, help.
A: How wonderful. Start with one small story that shows who she is. Is there one?
U: [story] When we were kids she sold my bicycle to buy me a birthday cake.
A: That is perfect. Open with it.
--
U: The ceremony will be at a vineyard near {town}. Outdoors, so everybody prays for dry weather.
A: Ask about a tent. How many guests?
U: [guests] Around {hundred}, mostly his side of the family.
A: Then a microphone is a must for your speech.
--
U: [dress] I have to wear {colour}, all of the bridesmaids do. Not my shade at all.
A: Jewellery can move attention to your face.
--
U: The caterer cancelled two weeks before the party, everyone panicked.
A: Oh no. Did you find somebody else?
U: [food] {friend}'s cousin runs a food truck and does {dish} for the whole crowd.
A: Guests will remember that longer than any buffet.
? indirect | Which small story shows who {sister} is, for the speech? | story
? unrelated | What anecdote should I tell about my sibling? | story
? paraphrase | Who cooks for the party after the caterer cancelled? | food
? direct | What shade do the bridesmaids have to wear? | dress
? indirect | How many guests come to the ceremony at the vineyard? | guests
## piano
U: I started piano lessons at thirty-eight. My hands refuse to do different things.
A: Slow practice, hands apart, then together. Who teaches you?
U: [teacher] {friend}, a retired organist two houses down. Very patient.
A: Patience is the best qualification.
--
U: [piece] We begin with {tune}. It sounds sad even when I play it wrong.
A: Learn the left hand first, it carries the piece.
--
U: I can rent an upright for {small} months before deciding whether to buy.
A: A good idea. Does it fit into the room?
U: [place] It goes under the stairs, we measured it twice.
A: Keep it away from the radiator.
--
U: There is a small recital in the parish hall and I said yes, God knows why.
A: Playing for others is the fastest teacher. What will you play?
U: [recital] Not the sad one after all, something by Bartók that lasts a minute.
A: A minute of Bartók is braver than it sounds.
? indirect | Who teaches me in the piano lessons? | teacher
? date | Who did I say teaches me the piano, in {piano_teacher}? | teacher
? direct | Where does the upright go? | place
? indirect | What did I decide to play at the recital in the parish hall? | recital
? paraphrase | With which sad piece did we begin? | piece
## car
U: The car makes a grinding noise whenever I brake.
A: Get the pads checked soon. How many kilometres has it done?
U: [km] A hundred and {hundred} thousand or so, it is old.
A: Then the discs may be due as well.
--
U: The garage says discs and pads, and they found rust underneath.
A: What do they want for it?
U: [bill] {large} all in, more than the thing is worth.
A: Ask a second workshop before you decide.
--
U: [sold] We decided to sell it. A student gave us {hundred} in cash for it.
A: A fair end. What will you drive?
U: A shared one from the corner, and a cargo bike for the shopping.
A: You will save the parking, too.
--
U: The bike was stolen from the yard last night, lock and all.
A: I am sorry. Is it insured?
U: [insurance] Yes, through the household policy, minus {small} percent.
A: Report it to the police first, they will ask for the number.
? indirect | What does the garage want for the discs and pads? | bill
? unrelated | What did the mechanic's quote amount to? | bill
? direct | Who bought the car and for how much cash? | sold
? indirect | Is the stolen bike insured? | insurance
? date | When was the bike stolen? | insurance
## garden
U: We got an allotment after three years on the waiting list. It is all nettles.
A: Nettles mean good soil. What would you like to grow?
U: [crop] Pumpkins for the kids and a {plant} along the wall.
A: Cover half of it with cardboard and start with the other half.
--
U: Somebody ate all the lettuce. No slime anywhere.
A: Then it was not slugs. Have you seen droppings?
U: [pest] Round ones, so rabbits I guess.
A: A low fence, dug in a little, keeps them out.
--
U: [neighbour] The old man from the next plot is called {friend} and lends me his wheelbarrow.
A: Bring him some of the first harvest.
--
U: The committee wants each of us to do community work.
A: What do you have to do?
U: [duty] Cleaning the gutters of the clubhouse with two others on {day}.
A: Gloves and a good ladder, then.
? indirect | What kind of animal ate all the lettuce? | pest
? direct | What is the old man from the next plot called? | neighbour
? indirect | What did I want to grow on the allotment? | crop
? indirect | Which community work does the committee want from me? | duty
? paraphrase | Who lends me a wheelbarrow? | neighbour
## trip
U: Thinking about a week in {town} in spring. Trains only, no flights.
A: A good choice. How long would the ride take?
U: [train] Eleven hours with two changes, overnight if we dare.
A: The night train saves a hotel.
--
U: [hotel] Booked the pension near the harbour for {small} nights. Breakfast until ten.
A: Nice. Ask for a room to the courtyard, harbours start early.
--
U: {friend} wants to come along, but gets seasick, so no boat tour.
A: There are castles and museums enough. Any food plans?
U: [table] A table at the fish place with the blue door, {time} on the second evening.
A: I would order whatever they caught that morning.
--
U: We are back! My wallet is not. It vanished on the tram.
A: How annoying. Was much in it?
U: [wallet] {hundred} in cash and my library card, the bank card was in my sock.
A: Your sock deserves a holiday of its own.
? paraphrase | Which place near the harbour did we stay at? | hotel
? unrelated | Where did we sleep on our holiday by the sea? | hotel
? indirect | How much was in the wallet that vanished on the tram? | wallet
? direct | How many hours does the train take, with how many changes? | train
? paraphrase | At what time was our table on the trip? | table
? date | Which restaurant had I planned for {town} in {trip_table}? | table
? date | When did we come back from the trip? | wallet
## health
U: My blood test came back and the doctor wants to talk about it.
A: Try not to worry before you know. What do they look at?
U: [blood] Iron is low and the thyroid is at the edge.
A: Both are common and can be treated well.
--
U: [pills] I have to take tablets on an empty stomach, at {time} each morning.
A: Put them beside your toothbrush.
--
U: I tried to give up coffee for a week and failed on day two.
A: Half the dose is a result as well.
U: Decaf after lunch works, it turns out.
A: Then you found your rule.
--
U: The specialist changed the plan today. No more tablets in the morning.
A: What is the new plan?
U: [pills2] One before going to bed, and a check again in {small} weeks.
A: I hope you sleep well with it.
? corrected | When do I take my tablets? | pills2
? indirect | What did the doctor say about my blood test? | blood
? unrelated | What did the laboratory find out about me? | blood
? direct | In how many weeks is the next check? | pills2
## books
U: Our book club picked {book}. Four hundred pages in three weeks.
A: Twenty pages a day. Who hosts the evening?
U: [host] I do, for the first time, so I need to clean.
A: A lamp, chairs, cheese: that is all a book club needs.
--
U: Half of them had not finished it. {friend} cried at the ending.
A: That is high praise. What did you make of it?
U: [opinion] I found the narrator unbearable, but I could not stop reading.
A: The best kind of unbearable.
--
U: [next] Next time it is poetry, {friend2}'s suggestion, nobody dared to object.
A: Read it aloud, it halves the work.
? indirect | Who hosts the evening of our book club? | host
? paraphrase | What did I think of the narrator in the book? | opinion
? direct | Whose suggestion was poetry? | next
## baking
U: My sourdough refuses to rise. It smells like nail polish.
A: It is hungry. How often do you feed it?
U: [feed] Once a week out of the fridge, a spoon of rye.
A: Feed it twice a day at room temperature for three days.
--
U: [oven] The trick was the oven: I bake at 250 with the lid on for {small} minutes more than the recipe says.
A: Steam in the first half makes the crust.
--
U: Sold two loaves to {friend} from the corner shop. My first money with bread!
A: You are in business. What did you charge?
U: [price] Six each, and she wants ten of them every {day}.
A: Buy a bigger bowl.
? indirect | What did I charge for the loaves I sold to {friend}? | price
? unrelated | What do I get for one of my breads? | price
? indirect | How often did I feed the sourdough that refused to rise? | feed
? direct | With the lid on for how many minutes more than the recipe says? | oven
? date | When did I make my first money with bread? | price
"""

SMALL_TALK = """
U: What should I cook tonight? There are leeks, eggs and half a {dish} left.
A: A leek tart. Fry the leeks slowly, pour eggs and milk over them, bake until it sets.
U: The kids hate leeks, but fine.
A: Call it onion cake.
--
U: How do I get red wine out of a white shirt?
A: Cold water and salt at once, then a little vinegar. No hot water before it is gone.
--
U: Can you explain why the sky is {colour} at dusk sometimes?
A: Low sunlight travels a long way through air. Blue is scattered away, the warm shades stay.
--
U: It rained all {day} and the train was late again.
A: Bad weather and late trains, a full set. Did you get home dry?
U: Not at all, I squelched.
A: Hot tea, thick socks.
--
U: Write a two-line birthday greeting for {friend}, who turns forty.
A: Forty looks good on you, {friend}. May the best stories still be ahead.
--
U: What is a good film for a lazy evening?
A: Something warm and slow: a road film, or an old comedy with good hats.
U: We watched one about a lighthouse, the picture was lovely, the plot went nowhere.
A: Lighthouses rarely have plots.
--
U: I read that octopuses have {small} hearts, is that right?
A: Three hearts: two for the gills, one for the rest of the body.
--
U: My phone is at {small} percent, so short answer please: capital of Mongolia?
A: Ulaanbaatar.
--
U: The neighbours are drilling again since {time}.
A: Headphones and rain sounds help a little. Do you know for how long?
U: Until the new bathroom is done, they said.
A: Bathrooms take longer than promised.
--
U: Help me word a polite reminder to someone who owes me money.
A: Hi, just a short note that the {hundred} from last month is still open. Could you send it this week? Thank you.
--
U: I cannot sleep. Tell me something boring.
A: The standard width of a railway track is 1,435 millimetres, with a tolerance of a few millimetres in either direction.
--
U: Is it fine to freeze cooked rice?
A: Yes. Cool it quickly, freeze it in portions, and heat it through once.
--
U: Our old neighbour {friend} moved to {town}, the stairwell is quiet now.
A: You will miss the noise sooner than you think.
--
U: What do I bring to a housewarming?
A: Bread and salt, if they like traditions. A plant if they do not travel.
U: They travel all the time.
A: Then a bottle of something.
--
U: Translate 'see you at the usual place' into Italian.
A: Ci vediamo al solito posto.
--
U: My boss's dog came to the office and ate a whole sandwich off {friend}'s desk.
A: A dog with initiative. Was it a good sandwich?
U: Tuna, she was furious.
A: Understandably.
--
U: How many days until the end of the year?
A: That depends on today's date. Count the days of each month that is left.
--
U: I bought a {colour} lamp at the flea market for {small} euros.
A: A bargain, if it works.
U: It does, and it hums.
A: Then you bought a radio as well.
--
U: Give me a word for someone who always arrives late.
A: A laggard, or more kindly a latecomer.
--
U: The concert on {day} was sold out within minutes.
A: Try the official resale shortly before, people fall ill.
--
U: Do tomatoes belong in the fridge?
A: No, they lose their taste there. A bowl on the counter is right.
--
U: I spent {hundred} on the dentist, and it did not even hurt.
A: Painless until the invoice.
--
U: {friend} says that everyone should learn to juggle.
A: Start with one ball, thrown at eye level from hand to hand.
U: I broke a vase.
A: Practise over the bed.
--
U: Which is the better present for a child of {small}: a kite or a microscope?
A: A kite for this weekend, a microscope for the next ten years.
"""


@dataclass
class Question:
    """A question, and the texts of the messages that answer it, with the day on which each was written."""

    kind: str
    text: str
    evidence: list[tuple[str, str]]


@dataclass
class Line:
    role: str
    text: str
    time: str


@dataclass
class Dialogue:
    """A conversation: lines that alternate between user and assistant, and questions about it."""

    lines: list[Line]
    questions: list[Question]
    end: datetime

    @classmethod
    def make(cls, seed: int, exchanges: int = 450) -> Dialogue:
        rng = random.Random(seed)
        scheduled: list[tuple[int, int, list[str], str]] = []
        asked: list[tuple[str, str, str, str]] = []
        values: dict[str, dict[str, str]] = {}
        for story in STORIES.strip().split("## ")[1:]:
            name, _, body = story.partition("\n")
            values[name] = _draw(rng)
            parts = body.split("\n? ")
            steps = [step.strip().split("\n") for step in parts[0].split("--\n")]
            days = sorted(rng.sample(range(2, 170), len(steps)))
            scheduled += ((day, rng.randrange(100), step, name) for day, step in zip(days, steps, strict=True))
            for entry in parts[1:]:
                kind, text, key = (part.strip() for part in entry.split("|"))
                asked.append((kind, text, name, key))
        talk = [block.strip().split("\n") for block in SMALL_TALK.strip().split("\n--\n")]
        for _ in range(exchanges - len(scheduled)):
            scheduled.append((rng.randrange(180), rng.randrange(100), rng.choice(talk), ""))
        first = datetime(2026, 1, 5, 8, tzinfo=UTC)
        lines: list[Line] = []
        found: dict[tuple[str, str], tuple[str, str]] = {}
        for day, place, step, name in sorted(scheduled, key=lambda entry: entry[:2]):
            time = first + timedelta(days=day, minutes=6 * place)
            slots = values.get(name) or _draw(rng)
            for number, line in enumerate(step):
                role, text = {"U": "user", "A": "assistant"}[line[0]], line[3:]
                if text.startswith("["):
                    key, _, text = text[1:].partition("] ")
                    text = text.format(**slots)
                    found[name, key] = (text, str(time.date()))
                at = time + timedelta(seconds=40 * number)
                lines.append(Line(role, text.format(**slots), at.isoformat().replace("+00:00", "Z")))
        months = {f"{name}_{key}": _month(day) for (name, key), (_, day) in found.items()}
        questions = [
            Question(kind, text.format(**values[n], **months), [found[n, key]]) for kind, text, n, key in asked
        ]
        return cls(lines, questions, first + timedelta(days=181))


def _month(day: str) -> str:
    return datetime.fromisoformat(day).strftime("%B")


def _draw(rng: random.Random) -> dict[str, str]:
    """A value for each slot, and a second one, which differs."""
    drawn = {}
    for slot, names in SLOTS.items():
        one, two = rng.sample(names.split(), 2)
        drawn[slot], drawn[f"{slot}2"] = one.replace("_", " "), two.replace("_", " ")
    return drawn
