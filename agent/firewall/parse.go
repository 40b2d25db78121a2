package firewall

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// entry is one line of iptables-save's output that says something.
type entry struct {
	table, chain string
	// policy is set where the line declares a chain: "ACCEPT" or "DROP", or "-" where the chain is not built in.
	policy string
	// args are the rule's words behind the chain's name, without their quotes, and text the same as it stood.
	args []string
	text string
}

// parseSave reads iptables-save's output line by line. A line that it does not know is an error, and so is an output that was cut off.
func parseSave(r io.Reader, each func(entry)) error {
	const longest = 1 << 20 // a rule can name sets and comments, and bpf programs; iptables itself takes 64 KiB from a file
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, longest)
	table := ""
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		bad := func(why string) error { return fmt.Errorf("line %d: %s: %.60q", n, why, line) }
		if strings.HasPrefix(line, "[") { // counters
			_, line, _ = strings.Cut(line, "] ")
		}
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '*':
			if table != "" {
				return bad("a table inside another")
			}
			table = line[1:]
		case table == "":
			return bad("outside of a table")
		case line == "COMMIT":
			table = ""
		case line[0] == ':':
			words := strings.Fields(line[1:])
			if len(words) < 2 {
				return bad("not a chain")
			}
			each(entry{table: table, chain: words[0], policy: words[1]})
		case strings.HasPrefix(line, "-A "):
			chain, text, _ := strings.Cut(line[len("-A "):], " ")
			args, ok := split(text)
			if !ok {
				return bad("an open quote")
			}
			each(entry{table: table, chain: chain, args: args, text: text})
		default:
			return bad("not a rule")
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if table != "" {
		return fmt.Errorf("table %s has no end", table)
	}
	return nil
}

// split cuts a rule into words. Quotes and backslashes are as iptables-save writes them: a word with a blank is in double quotes, and a quote
// or a backslash inside has a backslash before it.
func split(text string) (words []string, ok bool) {
	var word strings.Builder
	started, quoted, escaped := false, false, false
	for _, c := range []byte(text) {
		switch {
		case escaped:
			word.WriteByte(c)
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			started, quoted = true, !quoted
		case c == ' ' && !quoted:
			if started {
				words = append(words, word.String())
			}
			word.Reset()
			started = false
		default:
			word.WriteByte(c)
			started = true
		}
	}
	if started {
		words = append(words, word.String())
	}
	return words, !quoted
}

// target gives where a rule sends packets: a verdict, an extension or a chain. A rule without one only counts.
func (e entry) target() string { return e.value("-j", "-g") }

// value gives the word behind one of the options.
func (e entry) value(options ...string) string {
	for i := 0; i+1 < len(e.args); i++ {
		for _, o := range options {
			if e.args[i] == o {
				return e.args[i+1]
			}
		}
	}
	return ""
}

// interfaces gives the devices that a rule names.
func (e entry) interfaces() []string {
	var names []string
	for i := 0; i+1 < len(e.args); i++ {
		if e.args[i] == "-i" || e.args[i] == "-o" {
			names = append(names, e.args[i+1])
		}
	}
	return names
}
