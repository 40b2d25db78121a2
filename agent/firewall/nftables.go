package firewall

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// nftChain is one chain of nf_tables, whoever made it.
type nftChain struct {
	family, table, name string
	// forward tells a base chain that forwarded packets pass. rules and drop (the policy) are filled in only there.
	forward bool
	rules   int
	unread  error // the rules cannot be understood
	drop    bool
	// docker tells that the table is that of Docker's nftables backend. bridges are those that it names.
	docker  bool
	bridges []string
}

// ofIPTables tells whether the chain may be one that iptables-nft made and can tell the rules of.
func (c nftChain) ofIPTables() bool {
	return c.family == "ip" && slices.Contains([]string{"raw", "mangle", "nat", "filter", "security"}, c.table) &&
		slices.Contains([]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}, c.name)
}

// foreign says why the chain could decide over forwarded traffic, or "".
func (c nftChain) foreign() string {
	var why []string
	if c.drop {
		why = append(why, "policy drop")
	}
	switch {
	case c.unread != nil:
		why = append(why, "rules that cannot be read: "+c.unread.Error())
	case c.rules == 1:
		why = append(why, "1 rule")
	case c.rules > 1:
		why = append(why, fmt.Sprintf("%d rules", c.rules))
	}
	if !c.forward || len(why) == 0 {
		return ""
	}
	return strings.Join(why, ", ")
}

// maxReads is how often nf_tables is read again that changed meanwhile.
const maxReads = 3

// readNFTables lists the chains that IPv4 packets may pass; nil where the kernel has no nf_tables.
func readNFTables() ([]nftChain, error) {
	for try := 1; ; try++ {
		chains, err := tryReadNFTables()
		switch {
		case err == nil:
			return chains, nil
		case try == 1 && slices.ContainsFunc([]error{unix.EINVAL, unix.EPROTONOSUPPORT, unix.EOPNOTSUPP}, func(e error) bool { return errors.Is(err, e) }):
			return nil, nil
		case try == maxReads || errors.Is(err, unix.EPERM):
			return nil, err
		}
	}
}

func tryReadNFTables() ([]nftChain, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	tables, err := conn.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	all, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	found := []nftChain{}
	for _, t := range tables {
		family := familyName(t.Family)
		if family == "" || t.Flags&unix.NFT_TABLE_F_DORMANT != 0 {
			continue
		}
		if family == "ip" && t.Name == dockerTable {
			bridges, err := dockerBridges(conn, t)
			if err != nil {
				return nil, err
			}
			found = append(found, nftChain{family: family, table: t.Name, docker: true, bridges: bridges})
			continue
		}
		for _, c := range all {
			if c.Table.Family == t.Family && c.Table.Name == t.Name {
				found = append(found, readChain(conn, t, c, family))
			}
		}
	}
	return found, nil
}

func readChain(conn *nftables.Conn, t *nftables.Table, c *nftables.Chain, family string) nftChain {
	chain := nftChain{family: family, table: t.Name, name: c.Name}
	chain.forward = c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward
	if !chain.forward {
		return chain
	}
	chain.drop = c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
	rules, err := conn.GetRules(t, c)
	chain.rules, chain.unread = len(rules), err
	return chain
}

// familyName gives the names of the families whose forward hook IPv4 packets pass, and "" for others.
func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyINet:
		return "inet"
	case nftables.TableFamilyBridge:
		return "bridge"
	}
	return ""
}

// dockerTable is where Docker's nftables backend (29 and later) has all its rules.
const dockerTable = "docker-bridges"

// dockerBridges gives the bridges that the table has chains for: its maps lead from a device's name to them.
func dockerBridges(conn *nftables.Conn, t *nftables.Table) ([]string, error) {
	sets, err := conn.GetSets(t)
	if err != nil {
		return nil, fmt.Errorf("list sets of table %s: %w", t.Name, err)
	}
	var names []string
	for _, s := range sets {
		// A map to verdicts is told with the verdict's type in place of the key's.
		if s.KeyType.Name != nftables.TypeIFName.Name && s.KeyType.Name != nftables.TypeVerdict.Name {
			continue
		}
		elements, err := conn.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("list elements of set %s %s: %w", t.Name, s.Name, err)
		}
		for _, e := range elements {
			if len(e.Key) == unix.IFNAMSIZ {
				names = append(names, unix.ByteSliceToString(e.Key))
			}
		}
	}
	return names, nil
}
