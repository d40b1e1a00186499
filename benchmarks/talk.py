"""What people say in synthetic meetings: names and sentences, by language. All of it is
invented."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tongue:
    """A language: its BCP 47 tag, and sentences and names in it."""

    tag: str
    names: tuple[str, ...]
    sentences: tuple[str, ...]


ENGLISH = Tongue(
    "en-GB",
    ("Ana Pinto", "Joseph Okafor", "Maria Silva", "Tom Baker", "Priya Rao", "Ellen Ward"),
    (
        "Good morning everyone, can you hear me now?",
        "Let me share the numbers from last week before we start.",
        "The build failed twice on the release branch, I am looking into it.",
        'She said "not before Friday", so we should plan for Monday.',
        "Could you mute yourself, there is an echo.",
        "I will send the minutes after the call.",
        "We agreed on the second option, didn't we?",
        "The customer asked for a new quote: 4,200 for the first year.",
        "My camera is frozen again, I will rejoin.",
        "Who takes the action item for the migration?",
        "Sounds good to me.",
        "One moment, someone is at the door.",
        "The path is C:\\builds\\nightly, ask me if you have no access.",
        "Let's take this offline and come back on Thursday.",
    ),
)
_INDONESIAN = Tongue(
    "id-ID",
    ("Siti Rahmawati", "Budi Santoso", "Dewi Lestari", "Agus Wijaya"),
    (
        "Selamat pagi semuanya, apakah suara saya terdengar jelas?",
        "Mohon tunggu sebentar, saya sedang membuka berkas laporannya.",
        "Rapat minggu depan dipindahkan ke hari Kamis – jam sepuluh, ya.",
        "Terima kasih, nanti saya kirim catatannya lewat surel 🙏",
        "Anggarannya sudah disetujui kemarin sore, tinggal menunggu tanda tangan.",
        "Tolong matikan mikrofon dulu, ada gema…",
    ),
)
_GERMAN = Tongue(
    "de-DE",
    ("Jürgen Groß", "Käthe Müller", "Sören Weiß", "Bärbel Krüger"),
    (
        "Guten Morgen, könnt ihr mich hören oder ist die Verbindung wieder gestört?",
        "Für die Übergabe müssen wir die Prüfberichte noch einmal durchgehen.",
        "Das Angebot geht frühestens nächste Woche raus – größer wird das Budget nicht.",
        "Ich schlage vor, wir vertagen das auf übermorgen.",
        "Schöne Grüße aus Köln, ich wähle mich später über das Telefon ein.",
        "Die Änderungen an der Straße 17 dürfen nicht vergessen werden: ca. 1.500 €.",
    ),
)
_CHINESE = Tongue(
    "zh-CN",
    ("王小明", "李芳", "陈建国", "刘洋"),
    (
        "大家早上好,能听到我的声音吗?",
        "请稍等一下,我先共享一下上周的数据。",
        "客户希望下个月之前完成第一阶段的测试。",
        "这个问题我们会后再讨论,先看下一项。",
        "会议纪要我今天下午发给大家。",
        "预算已经批准了,接下来需要确认时间表。",
    ),
)
TONGUES: tuple[Tongue, ...] = (_INDONESIAN, _GERMAN, _CHINESE)
"""The languages of the corpus ``non_ascii``."""
