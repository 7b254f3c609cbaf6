"""`nnet graph`: lexicon, grammar, tree and transition model to a decoding graph.

Kaldi's mkgraph.sh.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from nnet.errors import NnetError
from nnet.options import Option

if TYPE_CHECKING:
    from nnet.modelfile.fst import Fst
    from nnet.speech.graphs.lang import Lang


def graph(
    lang: Annotated[Path, Argument(help="Folder with L_disambig.fst, words.txt and phones.")],
    tree: Annotated[str, Argument(help="Phonetic context dependency tree.")],
    model: Annotated[str, Argument(help="Acoustic model (.mdl) or transition model.")],
    out_dir: Annotated[Path, Argument(help="Folder for HCLG.fst, words.txt and what goes along.")],
    lexicon: Annotated[
        str,
        Option(help="Words and phones in the place of LANG's own; with lexiconp probabilities."),
    ] = "",
    arpa: Annotated[str, Option(help="Language model in ARPA form [LANG's G.fst].")] = "",
    rules: Annotated[
        str, Option(help="Grammar of rules such as: turn (on | off) [the] light;")
    ] = "",
    phrases: Annotated[str, Option(help="Grammar of phrases, one a line, in any order.")] = "",
    transition_scale: Annotated[float, Option(help="Scale of transitions' costs.")] = 1.0,
    self_loop_scale: Annotated[
        float, Option(help="Scale of self-loops' costs; chain models take 1.0.")
    ] = 0.1,
) -> None:
    """Builds a decoding graph of a lexicon, a grammar, a tree and a transition model.

    OUT_DIR gets HCLG.fst with words.txt, phones.txt and the lists that decoding uses.

    Example: nnet graph data/lang exp/tree exp/final.mdl exp/graph --self-loop-scale 1.0
    """
    from nnet.data.chain.expansion import PhoneHmms
    from nnet.modelfile.graph_files import write_decoding_graph
    from nnet.modelfile.loading import open_file
    from nnet.modelfile.transitions import read_transition_model
    from nnet.modelfile.trees import read_tree
    from nnet.speech.graphs.building import GraphScales, decoding_graph, grammar_graph
    from nnet.speech.graphs.lang import read_lang, with_lexicon, write_files
    from nnet.speech.graphs.lexicon import read_lexicon

    if sum(map(bool, (arpa, rules, phrases))) > 1:
        raise NnetError("give one of --arpa, --rules and --phrases")
    transitions = read_transition_model(open_file(model))
    hmms = PhoneHmms(transitions, read_tree(open_file(tree)))
    folder = read_lang(lang)
    if lexicon:
        entries = read_lexicon(lexicon, with_probabilities=lexicon.endswith("lexiconp.txt"))
        folder = replace(with_lexicon(folder, entries), grammar=folder.grammar)
    grammar = _grammar(folder, str(lang), arpa, rules, phrases)
    phones = grammar_graph(folder.lexicon, grammar)
    scales = GraphScales(transition_scale, self_loop_scale)
    found = decoding_graph(phones, folder.disambiguation, hmms, scales)
    write_files({**folder.files, "num_pdfs": f"{transitions.num_pdfs}\n".encode()}, out_dir)
    write_decoding_graph(found, out_dir / "HCLG.fst")
    print(
        f"nnet graph: HCLG.fst with {found.num_states} states and {found.num_arcs} arcs",
        file=sys.stderr,
    )


def _grammar(lang: Lang, folder: str, arpa: str, rules: str, phrases: str) -> Fst:
    from nnet.modelfile.symbols import read_lines
    from nnet.speech.graphs.arpa import read_arpa
    from nnet.speech.graphs.grammars import phrases_fst, rules_fst

    if arpa:
        found, left_out = read_arpa(arpa, lang.words)
        if left_out:
            some = ", ".join(sorted(left_out)[:5])
            print(
                f"nnet: warning: {arpa}: {len(left_out)} words are not in words.txt and left out: "
                f"{some}",
                file=sys.stderr,
            )
        return found
    if rules:
        return rules_fst("\n".join(read_lines(rules)), lang.words, rules)
    if phrases:
        return phrases_fst([line for line in read_lines(phrases) if line.strip()], lang.words)
    if lang.grammar is None:
        raise NnetError(f"{folder}: has no G.fst; give --arpa, --rules or --phrases")
    return lang.grammar
