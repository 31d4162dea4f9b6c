"""Answers in other languages than English, for prompts that ask for one."""

LANGUAGES: dict[str, str] = {"de": "German", "fr": "French", "es": "Spanish", "it": "Italian"}
"""ISO 639-1 code to the English name."""

SENTENCES: dict[str, dict[str, tuple[str, ...]]] = {
    "bread": {
        "de": (
            "Brot besteht vor allem aus Mehl und Wasser.",
            "Der Teig muss lange ruhen und wird dann gebacken.",
            "Am besten schmeckt es noch warm mit etwas Butter.",
        ),
        "fr": (
            "Le pain est fait de farine et d'eau.",
            "La boulangerie du village ouvre tôt le matin.",
            "Nous mangeons une tranche avec du beurre et de la confiture.",
        ),
        "es": (
            "El pan se hace con harina y agua.",
            "La panadería del pueblo abre muy temprano por la mañana.",
            "Nos gusta comerlo todavía caliente con un poco de aceite.",
        ),
        "it": (
            "Il pane si fa con la farina e con l'acqua.",
            "Il forno del paese apre molto presto la mattina.",
            "Ci piace mangiarlo ancora caldo con un po' di olio.",
        ),
    },
    "rain": {
        "de": (
            "Der Regen füllt die Flüsse und macht die Wiesen grün.",
            "Viele Menschen hören gern das Geräusch auf dem Dach.",
            "Nach dem Gewitter riecht die Luft ganz frisch.",
        ),
        "fr": (
            "La pluie remplit les rivières et nourrit les champs.",
            "Beaucoup de gens aiment le bruit de l'eau sur le toit.",
            "Après l'orage le jardin sent très bon.",
        ),
        "es": (
            "La lluvia llena los ríos y da vida a los campos.",
            "A mucha gente le gusta el ruido del agua sobre el tejado.",
            "Después de la tormenta el aire huele muy bien.",
        ),
        "it": (
            "La pioggia riempie i fiumi e nutre i campi.",
            "A molte persone piace il rumore dell'acqua sul tetto.",
            "Dopo il temporale l'aria della sera è molto fresca.",
        ),
    },
    "cats": {
        "de": (
            "Katzen schlafen den größten Teil des Tages.",
            "Sie sehen auch bei wenig Licht sehr gut.",
            "Eine Katze entscheidet selbst wann sie gestreichelt werden will.",
        ),
        "fr": (
            "Les chats dorment pendant une grande partie de la journée.",
            "Ils voient très bien quand il y a peu de lumière.",
            "Un chat choisit lui-même le moment des caresses.",
        ),
        "es": (
            "Los gatos duermen durante la mayor parte del día.",
            "Ven muy bien cuando hay poca luz.",
            "Un gato decide por sí mismo cuándo quiere una caricia.",
        ),
        "it": (
            "I gatti dormono per la maggior parte della giornata.",
            "Vedono molto bene anche quando c'è poca luce.",
            "Un gatto decide da solo quando vuole una carezza.",
        ),
    },
    "trains": {
        "de": (
            "Züge bringen viele Menschen schnell von einer Stadt zur anderen.",
            "Durch das Fenster sieht man Felder und kleine Dörfer.",
            "Auf dem Bahnhof steht immer eine große Uhr.",
        ),
        "fr": (
            "Les trains transportent beaucoup de voyageurs d'une ville à l'autre.",
            "Par la fenêtre on voit des champs et des petits villages.",
            "Dans la gare il y a toujours une grande horloge.",
        ),
        "es": (
            "Los trenes llevan a muchas personas de una ciudad a otra.",
            "Por la ventana se ven campos y pueblos pequeños.",
            "En la estación siempre hay un reloj muy grande.",
        ),
        "it": (
            "I treni portano molte persone da una città all'altra.",
            "Dal finestrino si vedono campi e piccoli paesi.",
            "Nella stazione c'è sempre un grande orologio.",
        ),
    },
    "gardens": {
        "de": (
            "Ein Garten macht im Frühling viel Arbeit.",
            "Im Sommer sitzen wir dort unter dem alten Baum.",
            "Die Nachbarn tauschen Samen und geben gute Ratschläge.",
        ),
        "fr": (
            "Un jardin donne beaucoup de travail au printemps.",
            "En été nous sommes assis sous le vieil arbre.",
            "Les voisins échangent des graines et de bons conseils.",
        ),
        "es": (
            "Un jardín da mucho trabajo en primavera.",
            "En verano nos sentamos debajo del árbol viejo.",
            "Los vecinos cambian semillas y se dan buenos consejos.",
        ),
        "it": (
            "Un giardino dà molto lavoro in primavera.",
            "D'estate siamo seduti sotto il vecchio albero.",
            "I vicini si scambiano i semi e danno buoni consigli.",
        ),
    },
    "winter": {
        "de": (
            "Im Winter sind die Tage kurz und die Abende lang.",
            "Der Schnee macht die Straßen ganz still.",
            "Die Kinder laufen auf dem Eis und trinken danach heißen Kakao.",
        ),
        "fr": (
            "En hiver les jours sont courts et les soirées sont longues.",
            "La neige rend les rues très calmes.",
            "Les enfants glissent sur la glace et boivent ensuite un chocolat chaud.",
        ),
        "es": (
            "En invierno los días son cortos y las noches son largas.",
            "La nieve deja las calles muy tranquilas.",
            "Los niños juegan en el hielo y luego toman un chocolate caliente.",
        ),
        "it": (
            "D'inverno le giornate sono corte e le serate sono lunghe.",
            "La neve rende le strade molto silenziose.",
            "I bambini giocano sul ghiaccio e poi bevono una cioccolata calda.",
        ),
    },
}
"""By topic and language; without commas and digits."""
