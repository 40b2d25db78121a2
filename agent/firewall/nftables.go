package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// nftChain is one chain of nf_tables, whoever made it.
type nftChain struct {
	family, table, name string
	// judged is why the chain could decide over forwarded traffic, or "".
	judged string
	// docker tells that the table is that of Docker's nftables backend. bridges are those that it names.
	docker  bool
	bridges []string
}

// ofIPTables tells whether the chain may be one that iptables-nft made and can tell the rules of.
func (c nftChain) ofIPTables() bool {
	return c.family == "ip" && slices.Contains([]string{"raw", "mangle", "nat", "filter", "security"}, c.table) &&
		slices.Contains([]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}, c.name)
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
	switch {
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP):
		return nil, nil // what nfnetlink says of a part that it does not have, and the kernel where it has no nfnetlink
	case err != nil:
		return nil, fmt.Errorf("list tables: %w", err)
	}
	all, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	found := []nftChain{}
	for _, t := range tables {
		family := familyName(t.Family)
		if family == "" || dormant(t) {
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
				found = append(found, nftChain{family: family, table: t.Name, name: c.Name, judged: judge(c, rulesOf(conn, t))})
			}
		}
	}
	return found, nil
}

// dormant tells whether a table is switched off. The library takes its flags, which are in network byte order, for the host's.
func dormant(t *nftables.Table) bool {
	var flags [4]byte
	binary.NativeEndian.PutUint32(flags[:], t.Flags)
	return binary.BigEndian.Uint32(flags[:])&unix.NFT_TABLE_F_DORMANT != 0
}

// rulesOf reads the rules of a table's chains.
func rulesOf(conn *nftables.Conn, t *nftables.Table) func(chain string) ([]*nftables.Rule, error) {
	return func(chain string) ([]*nftables.Rule, error) { return conn.GetRules(t, &nftables.Chain{Name: chain}) }
}

// familyName names the families that IPv4 packets pass chains of, and gives "" for others.
func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyINet:
		return "inet"
	case nftables.TableFamilyBridge:
		return "bridge"
	case nftables.TableFamilyNetdev:
		return "netdev"
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
