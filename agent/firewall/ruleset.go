package firewall

import "slices"

// ruleset is what is kept of one backend's tables. Docker's own rules are not: there are several for each published port.
type ruleset struct {
	policies map[chainName]string
	rules    map[chainName][]entry
	// bridges are those that Docker's chains name; masqueraded those that rules of Docker's kind in nat's POSTROUTING name.
	bridges     map[string]bool
	masqueraded []string
	// intruders are rules in Docker's chains that are not Docker's.
	intruders []entry
}

type chainName struct{ table, chain string }

func newRuleset() *ruleset {
	return &ruleset{policies: map[chainName]string{}, rules: map[chainName][]entry{}, bridges: map[string]bool{}}
}

// has tells whether a chain was told of.
func (s *ruleset) has(table, chain string) bool { return s.policies[chainName{table, chain}] != "" }

// add takes one line.
func (s *ruleset) add(e entry) {
	at := chainName{e.table, e.chain}
	switch {
	case e.policy != "":
		s.policies[at] = e.policy
	case e.table == "nat":
		s.addNAT(e)
	case e.table == "filter" && dockerChain(e.chain):
		if intoDockerChain(e) {
			s.nameBridges(e)
		} else {
			s.intruders = append(s.intruders, e)
		}
	case e.chain == "INPUT" || e.chain == "OUTPUT":
	default:
		if sh, b := shape(e); e.chain == "FORWARD" && sh == "-o B -j DOCKER" {
			s.bridges[b] = true
		}
		s.rules[at] = append(s.rules[at], e)
	}
}

func (s *ruleset) addNAT(e entry) {
	switch {
	case dockerChain(e.chain):
		s.nameBridges(e)
	case e.chain == "POSTROUTING":
		if sh, bridge := shape(e); dockerPostrouting(sh) {
			s.masqueraded = append(s.masqueraded, bridge)
		}
	}
}

func (s *ruleset) nameBridges(e entry) {
	for _, name := range e.interfaces() {
		s.bridges[name] = true
	}
}

// finish is to be called behind the last line. A masquerading rule of Docker's kind is easily written by hand for a dockerd without iptables,
// so it counts only beside Docker's own chain.
func (s *ruleset) finish() {
	if s.has("nat", "DOCKER") {
		for _, name := range s.masqueraded {
			s.bridges[name] = true
		}
	}
}

// foreign lists what is not Docker's own and could decide over forwarded traffic.
func (s *ruleset) foreign() []Rule {
	var found []Rule
	add := func(e entry) {
		if e.text == "" {
			e.text = "a rule without match and target" // or one of nft's that iptables-save cannot tell
		}
		found = append(found, Rule{e.table, e.chain, e.text})
	}
	for _, table := range []string{"raw", "mangle", "filter", "security"} {
		for _, chain := range []string{"PREROUTING", "FORWARD", "POSTROUTING"} {
			at := chainName{table, chain}
			if s.policies[at] == "DROP" && !s.docker(at) {
				found = append(found, Rule{table, chain, "policy DROP"})
			}
			for _, e := range s.rules[at] {
				if s.isForeign(e) {
					add(e)
				}
			}
		}
	}
	for _, e := range s.rules[chainName{"filter", "DOCKER-USER"}] {
		if s.reaches(e, anything, map[string]bool{}) {
			add(e)
		}
	}
	for _, e := range s.intruders {
		add(e)
	}
	return found
}

// docker tells whether Docker set the policy of a chain: that of filter's FORWARD, beside its own rules there.
func (s *ruleset) docker(at chainName) bool {
	return at == chainName{"filter", "FORWARD"} &&
		slices.ContainsFunc(s.rules[at], func(e entry) bool { return dockerChain(e.target()) || e.text == "-j DOCKER-USER" })
}

// isForeign judges a rule of a built-in chain. Before and behind FORWARD many rules only mark and mangle: there it is one that can drop.
func (s *ruleset) isForeign(e entry) bool {
	sh, device := shape(e)
	if e.chain == "FORWARD" {
		docker, perBridge := dockerForward(sh)
		if e.table == "filter" && docker && (!perBridge || s.bridges[device]) {
			return false
		}
		// To return from here, or from where a rule here goes to, leaves the packet to the policy, and Docker's rules behind out.
		return e.target() == "RETURN" || e.value("-g") != "" || s.reaches(e, anything, map[string]bool{})
	}
	if e.table == "raw" && dockerPrerouting(sh, device) && (device == "lo" || s.bridges[device]) {
		return false
	}
	return s.reaches(e, drops, map[string]bool{})
}

// drops tells whether a target can keep a packet from going on. A queue's reader may do so.
func drops(target string) bool {
	switch target {
	case "DROP", "REJECT", "NFQUEUE", "QUEUE", "TARPIT":
		return true
	}
	return false
}

func anything(string) bool { return true }

// reaches tells whether a rule, or one of those that it leads to, has a target of a kind. A jump to a chain that is empty is nothing: ufw
// and others leave such behind when they are switched off. Docker's own chains count as targets, as their rules are not kept. seen are the
// chains that need no other look.
func (s *ruleset) reaches(e entry, kind func(target string) bool, seen map[string]bool) bool {
	t := e.target()
	if !s.has(e.table, t) || e.table == "filter" && dockerChain(t) {
		return t != "RETURN" && kind(t)
	}
	if seen[t] {
		return false
	}
	seen[t] = true
	return slices.ContainsFunc(s.rules[chainName{e.table, t}], func(next entry) bool { return s.reaches(next, kind, seen) })
}
