"""Completion of words such as `scheduler=vllm,sarathi` in bash, zsh and fish.

Click's scripts put a space after each word, cut it at a comma, and complete no file after `=`.
"""

import os

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)


@add_completion_class
class BashOverrides(BashComplete):
    """Bash, which takes what follows `=` for a word of its own."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' response type value
    response=$(COMP_LINE="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    while IFS=',' read -r type value; do
        if [[ $type == file ]]; then
            compopt -o default
        elif [[ $type == plain ]]; then
            COMPREPLY+=("$value")
            [[ $value == *[=.] ]] && compopt -o nospace
        fi
    done <<< "$response"
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the complete words of the line, and the incomplete one."""
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)[1:]
        return (words, "") if line[-1:].isspace() or not words else (words[:-1], words[-1])

    def get_completions(self, args: list[str], incomplete: str) -> "list[CompletionItem[str]]":
        """Return completions, without what bash holds to be words of their own."""
        items = super().get_completions(args, incomplete)
        start = len(incomplete.rpartition("=")[0]) + 1 if "=" in incomplete else 0
        return [CompletionItem(item.value[start:], item.type, item.help) for item in items]


@add_completion_class
class ZshOverrides(ZshComplete):
    """Zsh: no space after `=` and `.`, and files after `=`."""

    source_template = """\
#compdef %(prog_name)s
%(complete_func)s() {
    local -a closed open described response
    local type key descr
    response=("${(@f)$(COMP_WORDS="${(j: :)${(@q)words[1,CURRENT]}}" COMP_CWORD=$((CURRENT-1)) \\
        %(complete_var)s=zsh_complete %(prog_name)s)}")
    for type key descr in ${response}; do
        if [[ $type == file ]]; then
            compset -P '*='
            _path_files -f
        elif [[ $key == *[=.] ]]; then
            open+=("$key")
        elif [[ $descr == _ ]]; then
            closed+=("$key")
        else
            described+=("$key:$descr")
        fi
    done
    (( $#described )) && _describe -V unsorted described
    (( $#closed )) && compadd -V unsorted -a closed
    (( $#open )) && compadd -S '' -V unsorted -a open
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


@add_completion_class
class FishOverrides(FishComplete):
    """Fish: commas within a word, and files after `=`."""

    source_template = """\
function %(complete_func)s
    set -l response (%(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) \\
        %(prog_name)s)
    for completion in $response
        set -l item (string split -m 1 "," -- $completion)
        if test $item[1] = file
            set -l parts (string match -r '^((?:[^=]*=)?)(.*)' -- $item[2])
            for path in (__fish_complete_path "$parts[3]")
                echo "$parts[2]$path"
            end
        else
            echo $item[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""
