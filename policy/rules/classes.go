package rules

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ebpfnet/ebpfnet/bpf"
)

// classify puts pods, and the prefixes that rules name, into classes.
func (c *compiler) classify() {
	subjects := make([][directions][]int, len(c.pods))
	for s := range c.subjects {
		c.subjects[s].pods.each(func(i int) {
			for d := range directions {
				if c.subjects[s].asks[d] {
					subjects[i][d] = append(subjects[i][d], s)
				}
			}
		})
	}
	peers := make([][]int, len(c.pods))
	for p := range c.peers {
		c.peers[p].pods.each(func(i int) { peers[i] = append(peers[i], p) })
	}
	byKey := map[string]int{}
	c.podClass = make([]int, len(c.pods))
	for i := range c.pods {
		k := class{pods: true, subjects: subjects[i], peers: peers[i]}
		if c.named {
			k.ports = c.portNames(i)
		}
		c.podClass[i] = c.addClass(byKey, k)
	}
	c.addBlocks(byKey)
	c.members = make([][]int, len(c.peers))
	for i := range c.classes {
		for _, p := range c.classes[i].peers {
			c.members[p] = append(c.members[p], i)
		}
	}
}

// portNames gives a pod's ports by their names.
func (c *compiler) portNames(i int) map[string][]namedPort {
	ports, err := c.pods[i].namedPorts()
	if err != nil {
		c.out.Problems = append(c.out.Problems, err.Error()+": its ports have no names until it is made anew without the mistake")
		return nil
	}
	out := map[string][]namedPort{}
	for _, p := range ports {
		out[p.name] = append(out[p.name], p)
	}
	return out
}

// addClass gives the class of what is so to the rules. What no rule selects or names is in class 0, whose number no map holds.
func (c *compiler) addClass(byKey map[string]int, k class) int {
	nobody := len(k.peers) == 0 && len(k.subjects[ingress]) == 0 && len(k.subjects[egress]) == 0 && len(k.ports) == 0
	// The places of policies and peers are those of this compilation alone, so they tell its classes apart at little cost.
	quick := fmt.Sprint(k.pods && !nobody)
	if !nobody {
		quick += key(k.subjects[ingress]) + "|" + key(k.subjects[egress]) + "|" + key(k.peers)
		if len(k.ports) > 0 {
			quick += "|" + fmt.Sprint(k.ports)
		}
	}
	if n, ok := byKey[quick]; ok {
		return n
	}
	if !nobody {
		var content strings.Builder
		fmt.Fprint(&content, k.pods, k.ports)
		for d := range directions {
			for _, s := range k.subjects[d] {
				content.WriteString(c.subjects[s].content)
			}
			content.WriteByte('|')
		}
		for _, p := range k.peers {
			content.WriteString(c.peers[p].key)
		}
		k.id = c.numbers.classes.give(digest(content.String()))
	}
	byKey[quick] = len(c.classes)
	c.classes = append(c.classes, k)
	return len(c.classes) - 1
}

func key(numbers []int) string {
	b := make([]byte, 0, 4*len(numbers))
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return string(b)
}

// addBlocks gives a class to each prefix that a block or an exception names: all addresses of which it is the narrowest are in the same blocks.
func (c *compiler) addBlocks(byKey map[string]int) {
	in, out := map[netip.Prefix][]int{}, map[netip.Prefix][]int{}
	for i := range c.peers {
		p := &c.peers[i]
		if !p.block.IsValid() || !p.block.Addr().Is4() {
			continue
		}
		in[p.block] = append(in[p.block], i)
		for _, e := range p.except {
			out[e] = append(out[e], i)
		}
	}
	for p := range in {
		c.blocks = append(c.blocks, p)
	}
	for p := range out {
		if _, both := in[p]; !both {
			c.blocks = append(c.blocks, p)
		}
	}
	slices.SortFunc(c.blocks, comparePrefix)
	for _, q := range c.blocks {
		var k class
		taken := map[int]bool{}
		for bits := q.Bits(); bits >= 0; bits-- {
			wider, err := q.Addr().Prefix(bits)
			if err != nil {
				continue
			}
			for _, p := range out[wider] {
				taken[p] = true
			}
			for _, p := range in[wider] {
				if !taken[p] {
					k.peers = append(k.peers, p)
				}
			}
		}
		slices.Sort(k.peers)
		n := c.addClass(byKey, k)
		c.ofBlock = append(c.ofBlock, n)
		c.out.Policy.Classes[bpf.ClassKey{Prefixlen: 32 + uint32(q.Bits()), Addr: bpf.Addr(q.Addr())}] = bpf.Class{Class: c.classes[n].id}
	}
}

func comparePrefix(a, b netip.Prefix) int {
	if n := a.Addr().Compare(b.Addr()); n != 0 {
		return n
	}
	return a.Bits() - b.Bits()
}
