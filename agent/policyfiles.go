package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ebpfnet/ebpfnet/policy/rules"
)

// policyPoll is how often the folder of policies is looked at.
const policyPoll = time.Second

// policyFolder follows a folder of policies. It belongs to the run loop.
type policyFolder struct {
	dir  string // empty: none
	seen string // what was there when it was read last
	read bool
}

// files lists the folder's policies, in order. A folder that is not there is an empty one.
func (f *policyFolder) files() ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	var names []string
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".yaml", ".yml", ".json":
			if !strings.HasPrefix(e.Name(), ".") {
				names = append(names, filepath.Join(f.dir, e.Name()))
			}
		}
	}
	return names, nil
}

// changed tells whether the folder is another than it was when it was read last.
func (f *policyFolder) changed() bool {
	if f.dir == "" {
		return false
	}
	return !f.read || f.state() != f.seen
}

// state is what tells that a file has been written, without reading it.
func (f *policyFolder) state() string {
	names, err := f.files()
	if err != nil {
		return err.Error()
	}
	var s strings.Builder
	for _, name := range names {
		if i, err := os.Stat(name); err == nil {
			fmt.Fprintln(&s, name, i.Size(), i.ModTime().UnixNano())
		} else {
			fmt.Fprintln(&s, name, err)
		}
	}
	return s.String()
}

// load reads the folder. Every mistake in it is in the error.
func (f *policyFolder) load() ([]rules.Policy, error) {
	// A file that is written meanwhile is read again.
	f.seen, f.read = f.state(), true
	names, err := f.files()
	if err != nil {
		return nil, err
	}
	var all []rules.Policy
	var errs []error
	where := map[string]string{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("read policies: %w", err))
			continue
		}
		list, err := rules.Parse(name, data)
		errs = append(errs, err)
		for _, p := range list {
			if other, twice := where[p.Name()]; twice {
				errs = append(errs, fmt.Errorf("%s: metadata.name: %s stands in %s already", name, p.Name(), other))
				continue
			}
			where[p.Name()] = name
			all = append(all, p)
		}
	}
	return all, errors.Join(errs...)
}

// loadPolicies puts the folder's policies in force in place of those that it had before. Where something in it is wrong, all stay as they were,
// and the agent's problems say what is. The intent is changed in memory and on disk; the next look at the host puts it to work.
func (a *Agent) loadPolicies(context.Context) error {
	if !a.policies.changed() {
		return nil
	}
	fresh, err := a.policies.load()
	var kept []rules.Policy
	for _, p := range a.state.Intent.Policies {
		if p.Source != sourceApplied {
			continue
		}
		kept = append(kept, p)
		for _, q := range fresh {
			if p.Name() == q.Name() {
				err = errors.Join(err, fmt.Errorf("%s: metadata.name: %s has been applied by `ebpfnet policy apply`: delete it first", q.Source, p.Name()))
			}
		}
	}
	delete(a.problems, "policies")
	if err != nil {
		for _, line := range errorLines(err) {
			a.log.Error("policies", "error", line)
			a.problems["policies"] = append(a.problems["policies"], line+": the rules stay as they were")
		}
		return err
	}
	next := a.state
	next.Intent.Policies = append(kept, fresh...)
	if slices.EqualFunc(next.Intent.Policies, a.state.Intent.Policies, samePolicy) {
		return nil
	}
	if err := a.save(next); err != nil {
		a.setProblem("policies", err)
		return err
	}
	a.log.Info("policies read", "folder", a.policies.dir, "policies", len(fresh))
	return nil
}

func samePolicy(p, q rules.Policy) bool {
	return p.Source == q.Source && p.Object.String() == q.Object.String()
}
