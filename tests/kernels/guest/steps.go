package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/ebpfnet/ebpfnet/loader"
	"github.com/ebpfnet/ebpfnet/tests/kernels/step"
)

// takeSteps takes every step, whatever became of the ones before it, and gives the exit code. What a step returns is its detail.
func takeSteps() int {
	code := 0
	skip := strings.Split(os.Getenv(step.SkipEnv), ",")
	take := func(name string, do func() (string, error)) bool {
		if slices.Contains(skip, name) {
			return true
		}
		fmt.Printf("guest: step %s\n", name)
		detail, err := do()
		if err != nil {
			fmt.Printf("guest: step %s: %v\n", name, err)
			detail, code = err.Error(), 1
		}
		say(step.Result{Step: name, OK: err == nil, Detail: detail}.String())
		return err == nil
	}
	var features loader.Features
	take(step.Features, func() (string, error) {
		var err error
		features, err = loader.Probe()
		return strings.Join(lacking(features), " "), err
	})
	take(step.Loads, func() (string, error) { return verify(features) })
	take(step.Packet, func() (string, error) { return runTests("/tests/packet") })
	take(step.Loader, func() (string, error) { return runTests("/tests/loader") })

	w, err := newWorld()
	before := leftovers{}
	if err == nil {
		before, err = look()
	}
	take(step.Hook, func() (string, error) {
		if err != nil {
			return "", fmt.Errorf("make the namespaces: %w", err)
		}
		return w.attach(features)
	})
	if err != nil {
		return 1
	}
	take(step.Forward, w.forward)
	take(step.Masquerade, w.masquerade)
	take(step.Publish, w.publish)
	take(step.Uplinks, func() (string, error) { return w.uplinks(features) })
	take(step.Repaired, func() (string, error) { return w.repaired(features) })
	take(step.Killed, func() (string, error) { return w.killed(features) })
	if code != 0 {
		w.tell()
	}
	take(step.Detach, func() (string, error) { return w.detach(before) })
	return code
}

// lacking names the optional features that the kernel does not have, in order.
func lacking(f loader.Features) []string {
	var names []string
	for name, there := range f.Map() {
		if !there {
			names = append(names, name)
		}
	}
	return sorted(names)
}

// all joins the errors of several tries, each with what was tried.
func all(tries ...try) error {
	var errs []error
	for _, t := range tries {
		if err := t.do(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", t.what, err))
		}
	}
	return errors.Join(errs...)
}

type try struct {
	what string
	do   func() error
}
