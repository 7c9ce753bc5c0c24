# bash completion for chronos. Made by `chronos completions bash`.
_chronos() {
    COMPREPLY=()
    local IFS=$' \t\n'
    local current="${COMP_WORDS[COMP_CWORD]}" path="" home="" word words="" options="" index skip=0
    for ((index = 1; index < COMP_CWORD; index++)); do
        word="${COMP_WORDS[index]}"
        if ((skip)); then skip=0; continue; fi
        case "$word" in
        --home) home="${COMP_WORDS[index + 1]}"; skip=1 ;;
        --agent|--audience|--backfill|--body|--callback-url|--command|--count|--deliver|--env|--env-file|--every|--filename|--fire-at|--format|--from|--grace|--header|--home|--html|--http|--id|--image|--inherit-env|--input|--install|--interval|--jitter|--job-id|--jwks-url|--keep|--label|--last|--limit|--lock-timeout|--max-parallel|--method|--model|--name|--next|--on-crash|--on-failure|--on-failure-again|--output|--overlap|--pause-after-failures|--portal-url|--prompt|--reason|--repeat|--retries|--schedule|--script|--seconds|--selector|--set|--shell|--since|--skills|--state|--svg|--tail|--timeout|--timezone|--token|--token-file|--tolerance|--ttl|--tz|--unset-env|--until|--wait|--workdir|-f|-l|-n|-o) skip=1 ;;
        -*) ;;
        *) case "$path${path:+ }$word" in
            'apply'|'arm'|'cancel'|'completions'|'config path'|'config show'|'config'|'demo'|'doctor'|'fire'|'history'|'hold'|'init'|'job add'|'job edit'|'job export'|'job import'|'job layout'|'job list'|'job pause'|'job realign'|'job remove'|'job resume'|'job show'|'job unlock'|'job'|'list'|'logs'|'next'|'provider list'|'provider'|'reconcile'|'run'|'status'|'tick'|'timeline')
                path="$path${path:+ }$word" ;;
            esac ;;
        esac
    done
    case "$path" in
        "") words="arm cancel list reconcile fire job apply run next tick status doctor history logs timeline hold provider init config completions demo" ;;
        "job") words="add show list edit pause resume remove unlock realign layout import export" ;;
        "provider") words="list" ;;
        "config") words="show path" ;;
    esac
    case "$path" in
        "arm") options="--all --dry-run --detailed-exitcode" ;;
        "cancel") options="--all --orphans --dry-run --detailed-exitcode --yes -y" ;;
        "list") options="--offline --selector -l --output -o --watch -w --interval" ;;
        "reconcile") options="--dry-run --detailed-exitcode --prune" ;;
        "fire") options="--job-id --token --token-file --fire-at --detach --answer" ;;
        "job add") options="--name --id --command --shell --script --prompt --http --method --body --header --env --env-file --tz --overlap --grace --timeout --retries --on-crash --jitter --tolerance --pause-after-failures --on-failure --on-failure-again --inherit-env --repeat --paused --label --workdir --skills --model --deliver --dry-run --detailed-exitcode" ;;
        "job show") options="" ;;
        "job list") options="--selector -l --output -o --watch -w --interval" ;;
        "job edit") options="--all --selector -l --schedule --name --command --shell --script --prompt --http --method --body --header --env --env-file --unset-env --tz --overlap --grace --timeout --retries --on-crash --jitter --tolerance --pause-after-failures --on-failure --on-failure-again --inherit-env --repeat --label --workdir --skills --model --deliver --dry-run --detailed-exitcode" ;;
        "job pause") options="--all --selector -l --reason" ;;
        "job resume") options="--all --selector -l" ;;
        "job remove") options="--all --selector -l --yes -y" ;;
        "job unlock") options="--yes -y" ;;
        "job realign") options="" ;;
        "job layout") options="" ;;
        "job import") options="--from --dry-run --detailed-exitcode --tz --seconds --system --prune --local --disable-source --skip-refused" ;;
        "job export") options="--output -o --format --image" ;;
        "apply") options="--filename -f --set --prune --allow-empty --take-over --dry-run --detailed-exitcode --output -o --yes -y --schema" ;;
        "run") options="--all --selector -l --detach --env --input --backfill --limit --dry-run" ;;
        "next") options="--tz --count -n" ;;
        "tick") options="--max-parallel --detach --install --every --image --yes --remove" ;;
        "status") options="--offline --exit-code --output -o --watch -w --interval" ;;
        "doctor") options="--probe --wait" ;;
        "history") options="--count -n --since --until --state --output -o --watch -w --interval" ;;
        "logs") options="--follow -f --tail -n" ;;
        "timeline") options="--last --next --svg --html" ;;
        "hold") options="--reason --ttl --on --off" ;;
        "provider list") options="" ;;
        "init") options="--portal-url --callback-url --audience --jwks-url --timezone --agent --force" ;;
        "config show") options="--origin" ;;
        "config path") options="" ;;
        "completions") options="" ;;
        "demo") options="--keep" ;;
    esac
    if [[ "$current" == -* ]]; then
        words="$options --home --json --quiet -q --verbose -v --debug --lock-timeout --help"
    else
        case "$path" in
        "arm"|"cancel"|"job show"|"job edit"|"job pause"|"job resume"|"job remove"|"job unlock"|"job realign"|"job export"|"run"|"history"|"logs"|"timeline")
            # What comes from the store is compared as it is: `compgen -W` would run what is in it.
            while IFS=$'\t' read -r word _; do
                [[ "$word" == "$current"* && ! "$word" == *[!A-Za-z0-9._-]* ]] && COMPREPLY+=("$word")
            done < <(chronos __complete jobs "$current" "$home" 2>/dev/null)
            return ;;
        "completions") words="bash zsh fish" ;;
        esac
    fi
    for word in $words; do
        [[ "$word" == "$current"* ]] && COMPREPLY+=("$word")
    done
}
complete -o default -F _chronos chronos
