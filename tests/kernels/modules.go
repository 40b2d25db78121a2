package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// wanted are the kernel's modules that are loaded inside; a kernel that has one built in, or not at all, is left to it. In such a machine
// nobody loads a module when it is first needed.
func wanted() []string {
	return []string{
		"veth", "bridge", "br_netfilter", "dummy", "8021q", "bonding", "team", "team_mode_roundrobin", "macvlan", "vrf", "tun", "ipip", "ip_gre", "wireguard", "sch_ingress", "cls_bpf", "cls_u32", "cls_matchall", "act_gact",
		"nf_conntrack", "nf_conntrack_netlink", "nf_nat", "nf_tables", "nft_ct", "nft_nat", "nft_masq", "nft_chain_nat", "sctp",
	}
}

// moduleTree finds a kernel's modules by name, and reads from each what it depends on: packages of modules have no index, which is made
// where they are installed.
type moduleTree map[string]string // name, with _ for -: file

func findModules(root string) (moduleTree, error) {
	tree := moduleTree{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if name, _, ok := strings.Cut(d.Name(), ".ko"); ok {
			tree[moduleName(name)] = path
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find modules: %w", err)
	}
	return tree, nil
}

func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// module is one that can be handed to the kernel as it is.
type module struct {
	name string
	data []byte
}

// closure gives the modules and those that they depend on, in an order in which they can be loaded.
func (t moduleTree) closure(names []string) ([]module, error) {
	var ordered []module
	var add func(name string) error
	add = func(name string) error {
		path, ok := t[moduleName(name)]
		if !ok || slices.ContainsFunc(ordered, func(m module) bool { return m.name == moduleName(name) }) {
			return nil
		}
		data, err := readModule(path)
		if err != nil {
			return fmt.Errorf("read module %s: %w", path, err)
		}
		depends, err := dependencies(data)
		if err != nil {
			return fmt.Errorf("read module %s: %w", path, err)
		}
		for _, d := range depends {
			if err := add(d); err != nil {
				return err
			}
		}
		ordered = append(ordered, module{moduleName(name), data})
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return ordered, nil
}

func readModule(path string) ([]byte, error) {
	switch filepath.Ext(path) {
	case ".ko":
		return os.ReadFile(path)
	case ".xz":
		return output("xz", "-dc", path)
	}
	return nil, fmt.Errorf("%s: compressed in a way that is not known here", filepath.Ext(path))
}

// dependencies reads a module's own list: a string "depends=a,b" in its section .modinfo.
func dependencies(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	return depends(info), nil
}

func depends(modinfo []byte) []string {
	for s := range bytes.SplitSeq(modinfo, []byte{0}) {
		if list, ok := strings.CutPrefix(string(s), "depends="); ok {
			return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
		}
	}
	return nil
}
