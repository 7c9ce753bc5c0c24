"""Completion scripts for bash, zsh and fish, made from what the command line offers.

Words and options stand in the script; only job ids are asked for while a person types, with a command that is light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chronos_cli.cli.cli_model import commands, global_facts

if TYPE_CHECKING:
    from chronos_cli.cli.cli_model import CommandFact, OptionFact

SHELLS: Final = ("bash", "zsh", "fish")
FILES: Final = {"bash": "chronos.bash", "zsh": "_chronos", "fish": "chronos.fish"}


def script(shell: str) -> str:
    """Return the script of one of `SHELLS`."""
    facts = list(commands())
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](facts, global_facts())


def _words(facts: list[CommandFact]) -> dict[str, list[str]]:
    """Return the words that may come after each sequence of words."""
    tree: dict[str, list[str]] = {}
    for fact in facts:
        for depth, word in enumerate(fact.words):
            following = tree.setdefault(" ".join(fact.words[:depth]), [])
            if word not in following:
                following.append(word)
    return tree


def _options(options: tuple[OptionFact, ...]) -> str:
    return " ".join(name for option in options for name in option.names)


def _valued(facts: list[CommandFact], shared: tuple[OptionFact, ...]) -> str:
    names = {name for fact in facts for option in (*fact.options, *shared) if option.metavar for name in option.names}
    return "|".join(sorted(names))


def _bash(facts: list[CommandFact], shared: tuple[OptionFact, ...]) -> str:
    cases = [f'        "{path}") words="{" ".join(following)}" ;;' for path, following in _words(facts).items()]
    options = [f'        "{" ".join(fact.words)}") options="{_options(fact.options)}" ;;' for fact in facts]
    jobs = "|".join(f'"{" ".join(fact.words)}"' for fact in facts if fact.takes_job)
    return f"""# bash completion for chronos. Made by `chronos completions bash`.
_chronos() {{
    COMPREPLY=()
    local IFS=$' \\t\\n'
    local current="${{COMP_WORDS[COMP_CWORD]}}" path="" home="" word words="" options="" index skip=0
    for ((index = 1; index < COMP_CWORD; index++)); do
        word="${{COMP_WORDS[index]}}"
        if ((skip)); then skip=0; continue; fi
        case "$word" in
        --home) home="${{COMP_WORDS[index + 1]}}"; skip=1 ;;
        {_valued(facts, shared)}) skip=1 ;;
        -*) ;;
        *) case "$path${{path:+ }}$word" in
            {"|".join(sorted({_quoted(" ".join(f.words[:n])) for f in facts for n in range(1, len(f.words) + 1)}))})
                path="$path${{path:+ }}$word" ;;
            esac ;;
        esac
    done
    case "$path" in
{chr(10).join(cases)}
    esac
    case "$path" in
{chr(10).join(options)}
    esac
    if [[ "$current" == -* ]]; then
        words="$options {_options(shared)} --help"
    else
        case "$path" in
        {jobs})
            # What comes from the store is compared as it is: `compgen -W` would run what is in it.
            while IFS=$'\\t' read -r word _; do
                [[ "$word" == "$current"* && ! "$word" == *[!A-Za-z0-9._-]* ]] && COMPREPLY+=("$word")
            done < <(chronos __complete jobs "$current" "$home" 2>/dev/null)
            return ;;
        "completions") words="{" ".join(SHELLS)}" ;;
        esac
    fi
    for word in $words; do
        [[ "$word" == "$current"* ]] && COMPREPLY+=("$word")
    done
}}
complete -o default -F _chronos chronos
"""


def _zsh(facts: list[CommandFact], shared: tuple[OptionFact, ...]) -> str:
    cases = []
    summaries = {" ".join(fact.words): fact.summary for fact in facts}
    for path, following in _words(facts).items():
        listed = " ".join(
            _quoted(f"{word}:{summaries.get(f'{path} {word}'.strip(), word)}".replace("'", "")) for word in following
        )
        cases.append(f'        "{path}") words=({listed}) ;;')
    options = [
        f'        "{" ".join(fact.words)}") options=({_described(fact.options)}) ;;' for fact in facts if fact.options
    ]
    jobs = "|".join(f'"{" ".join(fact.words)}"' for fact in facts if fact.takes_job)
    known = "|".join(sorted({_quoted(" ".join(f.words[:n])) for f in facts for n in range(1, len(f.words) + 1)}))
    return f"""#compdef chronos
# zsh completion for chronos. Made by `chronos completions zsh`.
_chronos() {{
    setopt localoptions extendedglob
    local path_="" home="" word skip=0
    local -a words_ options jobs
    for word in "${{(@)words[2,CURRENT-1]}}"; do
        if (( skip == 2 )); then home="$word"; skip=0; continue; fi
        if (( skip )); then skip=0; continue; fi
        case "$word" in
        --home) skip=2 ;;
        {_valued(facts, shared)}) skip=1 ;;
        -*) ;;
        *) case "$path_${{path_:+ }}$word" in
            {known}) path_="$path_${{path_:+ }}$word" ;;
            esac ;;
        esac
    done
    case "$path_" in
{chr(10).join(case.replace(" words=", " words_=") for case in cases)}
    esac
    case "$path_" in
{chr(10).join(options)}
    esac
    if [[ "$PREFIX" == -* ]]; then
        options+=({_described(shared)} '--help:show the help')
        _describe -o 'option' options
        return
    fi
    case "$path_" in
    {jobs})
        jobs=("${{(@f)$(chronos __complete jobs "$PREFIX" "$home" 2>/dev/null)}}")
        jobs=("${{(@M)jobs:#[A-Za-z0-9][A-Za-z0-9._-]#$'\\t'*}}")
        jobs=("${{(@)jobs//:/\\:}}")
        jobs=("${{(@)jobs/$'\\t'/:}}")
        _describe 'job' jobs ;;
    "completions") _values 'shell' {" ".join(SHELLS)} ;;
    *) (( $#words_ )) && _describe 'command' words_ || _files ;;
    esac
}}
if [[ "$funcstack[1]" == _chronos ]]; then
    _chronos "$@"
else
    compdef _chronos chronos
fi
"""


def _described(options: tuple[OptionFact, ...]) -> str:
    return " ".join(_quoted(f"{name}:{option.help}".replace("'", "")) for option in options for name in option.names)


def _fish(facts: list[CommandFact], shared: tuple[OptionFact, ...]) -> str:
    lines = [
        "# fish completion for chronos. Made by `chronos completions fish`.",
        "function __chronos_path",
        "    set -l path",
        "    set -l skip 0",
        "    for word in (commandline -opc)[2..-1]",
        "        if test $skip = 1; set skip 0; continue; end",
        "        switch $word",
        f"            case {_valued(facts, shared).replace('|', ' ')}",
        "                set skip 1",
        "            case '-*'",
        "            case '*'",
        "                set path $path $word",
        "        end",
        "    end",
        "    echo (string join ' ' $path)",
        "end",
        "function __chronos_at",
        '    test (__chronos_path) = "$argv[1]"; or string match -q -- "$argv[1] *" (__chronos_path)',
        "end",
        "function __chronos_jobs",
        "    set -l words (commandline -opc)",
        "    set -l home",
        "    if set -l at (contains -i -- --home $words); set home $words[(math $at + 1)]; end",
        '    chronos __complete jobs (commandline -ct) "$home" 2>/dev/null \\',
        '        | string match -r "^[A-Za-z0-9][A-Za-z0-9._-]*\\t.*"',
        "end",
        "complete -c chronos -f",
    ]
    summaries = {" ".join(fact.words): fact.summary for fact in facts}
    for path, following in _words(facts).items():
        for word in following:
            summary = summaries.get(f"{path} {word}".strip(), word).replace("'", "")
            at = f'test (__chronos_path) = "{path}"'
            lines.append(f"complete -c chronos -n '{at}' -a {word} -d {_quoted(summary)}")
    for fact in facts:
        path = " ".join(fact.words)
        if fact.takes_job:
            lines.append(f"complete -c chronos -n '__chronos_at \"{path}\"' -a '(__chronos_jobs)'")
        lines += [_fish_option(option, f" -n '__chronos_at \"{path}\"'") for option in fact.options]
    lines += [f"complete -c chronos -n '__chronos_at completions' -a '{' '.join(SHELLS)}'"]
    return "\n".join([*lines, *(_fish_option(option, "") for option in shared)]) + "\n"


def _fish_option(option: OptionFact, condition: str) -> str:
    names = "".join(f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in option.names)
    told = _quoted(option.help.replace("'", ""))
    return f"complete -c chronos{condition}{names}{' -r' if option.metavar else ''} -d {told}"


def _quoted(text: str) -> str:
    return f"'{text}'"
