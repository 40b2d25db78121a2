package firewall

import "strings"

// dockerChain tells whether Docker, of any version from 20.10 on, makes and fills a chain of that name. DOCKER-USER is not among them: Docker
// makes it for others to fill.
func dockerChain(name string) bool {
	switch name {
	case "DOCKER", "DOCKER-FORWARD", "DOCKER-CT", "DOCKER-BRIDGE", "DOCKER-INTERNAL", "DOCKER-INGRESS",
		"DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2":
		return true
	}
	return false
}

// shape is a rule with its values taken out: B for the one device that it names, X for addresses, N for a port and P for a protocol. Where
// it names two devices that differ the second is C.
func shape(e entry) (shape, bridge string) {
	words := make([]string, len(e.args))
	copy(words, e.args)
	for i := 1; i < len(words); i++ {
		switch e.args[i-1] {
		case "-i", "-o":
			switch {
			case bridge == "" || bridge == e.args[i]:
				bridge, words[i] = e.args[i], "B"
			default:
				words[i] = "C"
			}
		case "-s", "-d", "--to-source":
			words[i] = "X"
		case "--dport":
			words[i] = "N"
		case "-p", "-m":
			if p := e.args[i]; p == "tcp" || p == "udp" || p == "sctp" {
				words[i] = "P"
			}
		}
	}
	return strings.Join(words, " "), bridge
}

// dockerForward tells whether Docker writes a rule of that shape into FORWARD, and whether it does so for each bridge.
func dockerForward(shape string) (docker, perBridge bool) {
	switch shape {
	case "-j DOCKER-USER", "-j DOCKER-FORWARD", "-j DOCKER-INGRESS", "-j DOCKER-ISOLATION-STAGE-1",
		"-m set --match-set docker-ext-bridges-v4 dst -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		"-m set --match-set docker-ext-bridges-v4 dst -j DOCKER":
		return true, false
	case "-o B -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-o B -j DOCKER",
		"-i B ! -o B -j ACCEPT", "-i B -o B -j ACCEPT", "-i B -o B -j DROP", "-i B -j ACCEPT":
		return true, true
	}
	return false, false
}

// dockerPrerouting tells the same for table raw's PREROUTING: the drops around containers' addresses and loopback's ports.
func dockerPrerouting(shape, device string) bool {
	switch shape {
	case "-d X ! -i B -j DROP":
		return true
	case "-d X ! -i B -p P -m P --dport N -j DROP":
		return device == "lo"
	}
	return false
}

// dockerPostrouting tells the same for table nat's POSTROUTING, as far as a rule there names a bridge.
func dockerPostrouting(shape string) bool {
	switch shape {
	case "-s X ! -o B -j MASQUERADE", "-s X ! -o B -j SNAT --to-source X", "-o B -m addrtype --src-type LOCAL -j MASQUERADE":
		return true
	}
	return false
}

// intoDockerChain tells whether a rule in one of Docker's own chains may be Docker's. What accepts, and the jumps between these chains, differ
// from version to version and are not looked at closely; neither keeps a packet from a container. What drops, or leaves a chain before a
// rule that accepts, does so around a whole bridge in every version. Anything else is someone else's.
func intoDockerChain(e entry) bool {
	switch t := e.target(); t {
	case "ACCEPT":
		return true
	case "DROP":
		switch sh, _ := shape(e); sh {
		case "! -i B -o B -j DROP", "-i B -o B -j DROP", "-o B -j DROP", "! -s X -o B -j DROP", "! -d X -i B -j DROP":
			return true
		}
		return false
	case "RETURN":
		sh, _ := shape(e)
		return sh == "-j RETURN" || sh == "-o B -j RETURN"
	default:
		return dockerChain(t)
	}
}
