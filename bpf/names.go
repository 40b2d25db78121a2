package bpf

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// Names are the words for the values of the datapath's enums, read from the type information of the embedded object, so that a name is
// written once, in told.h and types.h. Each slice is indexed by the enumerator's value; a word is the enumerator without its prefix, in lower case:
// DROP_FLOW_TABLE is "flow_table". Entry 0 of Drops and of Passes is "none" and counts nothing.
type Names struct {
	Drops  []string // enum drop_reason
	Passes []string // enum pass_reason
	Paths  []string // enum flow_path
	Hooks  []string // enum hook
}

// LoadNames parses the embedded object, which takes some milliseconds: call it once.
func LoadNames() (Names, error) {
	spec, err := LoadDatapath()
	if err != nil {
		return Names{}, fmt.Errorf("read names of the datapath: %w", err)
	}
	var n Names
	for _, e := range []struct {
		enum, prefix string
		into         *[]string
	}{
		{"drop_reason", "DROP_", &n.Drops},
		{"pass_reason", "PASS_", &n.Passes},
		{"flow_path", "PATH_", &n.Paths},
		{"hook", "HOOK_", &n.Hooks},
	} {
		if *e.into, err = enumWords(spec.Types, e.enum, e.prefix); err != nil {
			return Names{}, fmt.Errorf("read names of the datapath: %w", err)
		}
	}
	return n, nil
}

// enumWords gives the words of an enum whose values are 0, 1, 2 and so on. The closing PREFIX_MAX is a count and has no word.
func enumWords(types *btf.Spec, name, prefix string) ([]string, error) {
	var e *btf.Enum
	if err := types.TypeByName(name, &e); err != nil {
		return nil, fmt.Errorf("enum %s: %w", name, err)
	}
	words := make([]string, 0, len(e.Values))
	for i, v := range e.Values {
		word, ok := strings.CutPrefix(v.Name, prefix)
		if !ok || v.Value != uint64(i) {
			return nil, fmt.Errorf("enum %s: %s = %d is out of line", name, v.Name, v.Value)
		}
		if word == "MAX" && i == len(e.Values)-1 {
			break
		}
		words = append(words, strings.ToLower(word))
	}
	return words, nil
}
