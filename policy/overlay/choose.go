package overlay

import "net/netip"

// Fits tells whether a host may go on with a subnet: it has the right length and lies where subnets are given out.
func (n *Network) Fits(p netip.Prefix) bool {
	return p.IsValid() && p.Bits() == n.SubnetLen && !p.Addr().Less(n.SubnetMin) && !n.SubnetMax.Less(p.Addr())
}

// Choose gives a subnet that overlaps none of those that are taken, and false where all are. Which one depends on the seed: hosts with
// different seeds rarely choose the same, whatever they know of each other.
func (n *Network) Choose(taken []netip.Prefix, seed uint64) (netip.Prefix, bool) {
	size := uint64(1) << (32 - n.SubnetLen)
	first := number(n.SubnetMin)
	count := (number(n.SubnetMax)-first)/size + 1
	used := make(map[uint64]bool, len(taken))
	for _, p := range taken {
		if !p.Addr().Is4() {
			continue
		}
		from, to := number(p.Addr()), number(p.Addr())+1<<(32-p.Bits())-1
		if to < first || from > first+count*size-1 {
			continue
		}
		from, to = max(from, first), min(to, first+count*size-1)
		for i := (from - first) / size; i <= (to-first)/size; i++ {
			used[i] = true
		}
	}
	for i := range count {
		if at := (seed + i) % count; !used[at] {
			return netip.PrefixFrom(address(first+at*size), n.SubnetLen), true
		}
	}
	return netip.Prefix{}, false
}
