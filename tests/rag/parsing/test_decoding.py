"""Text in the encodings people's files are in."""

from __future__ import annotations

import codecs
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.core.errors import UnsupportedDocument
from agenthub.rag.parsing.characters import clean_text
from agenthub.rag.parsing.decoding import decode_text

TEXTS = {
    "cs": "Příliš žluťoučký kůň úpěl ďábelské ódy. Smlouva o dílo se uzavírá mezi oběma stranami do konce příštího roku.",
    "pl": "Zażółć gęślą jaźń. Umowa została zawarta w Warszawie pomiędzy stronami, które są uprawnione do jej podpisania.",
    "hu": "Árvíztűrő tükörfúrógép. A szerződést a felek közösen írják alá Budapesten.",
    "de": "Falsches Üben von Xylophonmusik quält jeden größeren Zwerg. Die Verträge müssen schriftlich bestätigt werden.",
    "fr": "Le café est fermé. Où êtes-vous allés cet été ? Ça n'a pas d'importance, voilà l'été déjà.",
    "es": "El niño comió una manzana en la montaña. ¿Dónde está el señor Muñoz? Él llegó después.",
    "it": "Perché la città è così bella? Non c'è più niente da dire, però sarà così.",
    "sv": "Flygande bäckasiner söka hwila på mjuka tuvor. Överläggningarna fortsätter på måndag.",
    "en": "It’s a “test” – the company’s revenue grew 5% in the third quarter, and everyone’s happy.",
    "tr": "Türkiye'nin en kalabalık şehri İstanbul'dur. Çocuklar öğretmenlerini çok seviyorlar, ağaçların altında.",
    "el": "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί.",
    "ru": "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.",
    "ja": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所で泣いていた事だけは記憶している。",
    "zh": "关于进一步加强城市规划建设管理工作的若干意见。城市是经济社会发展和人民生产生活的重要载体。",
    "short": "Café au lait",
}
CASES = [
    *[("cs", code) for code in ("cp1250", "iso8859-2", "cp852", "utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-16", "utf-8-sig")],
    *[("pl", code) for code in ("cp1250", "iso8859-2")],
    ("hu", "cp1250"),
    *[(language, "cp1252") for language in ("de", "fr", "es", "it", "sv", "en", "short")],
    *[(language, "latin-1") for language in ("de", "fr", "es", "it", "sv", "short")],
    ("tr", "cp1254"),
    ("el", "cp1253"),
    *[("ru", code) for code in ("cp1251", "koi8-r", "cp866", "utf-16-le")],
    *[("ja", code) for code in ("shift_jis", "euc_jp", "iso2022_jp", "utf-16", "utf-16-le", "utf-16-be")],
    *[("zh", code) for code in ("gb18030", "big5", "utf-16-be")],
]


@pytest.mark.parametrize(("language", "encoding"), CASES)
def test_text_is_read_in_its_encoding(language: str, encoding: str) -> None:
    data = TEXTS[language].encode(encoding, errors="ignore")
    assert decode_text(data)[0] == data.decode(encoding)


def test_a_large_file_is_judged_by_a_sample_and_read_whole() -> None:
    text = (TEXTS["cs"] + "\n") * 5_000
    assert decode_text(text.encode("cp1250"))[0] == text


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8 + b"\xff\xff", codecs.BOM_UTF16_LE + b"a"])
def test_text_that_breaks_the_promise_of_its_mark_is_refused(mark: bytes) -> None:
    with pytest.raises(UnsupportedDocument, match="the text is damaged"):
        decode_text(mark)


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_no_text(seed: int) -> None:
    with pytest.raises(UnsupportedDocument, match="binary data"):
        decode_text(random.Random(seed).randbytes(4_000))


@given(st.binary(max_size=400))
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    try:
        text, encoding = decode_text(data)
    except UnsupportedDocument:
        return
    assert isinstance(text, str)
    assert codecs.lookup(encoding)


@given(st.text())
def test_cleaning_is_final(text: str) -> None:
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    cleaned.encode("utf-8")
    assert not any(character in cleaned for character in "\x00\x07\u00ad\ufb01\u200b\r\f")
