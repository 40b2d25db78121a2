package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// minIDPrefix is how much of a container's id must be given at least.
const minIDPrefix = 4

// directory finds endpoints by what people call them.
type directory struct {
	endpoints  map[string]int       // by endpoint name
	containers map[string]*resident // by name and by full id
	ids        []string             // full ids, sorted
	namespaces map[string]int       // the first endpoint of each
	veths      map[string]int
	addrs      map[netip.Addr]int
}

// resident is a running container. main is its main endpoint's index, or -1 and why says why it has none.
type resident struct {
	name string
	id   string
	mode string // NetworkMode of the container whose namespace it has: host, none or something else
	main int
	why  string
}

// fillDirectory runs once the endpoints have their places in Result.Endpoints.
func (c *compiler) fillDirectory() {
	d := &c.r.names
	d.endpoints = make(map[string]int, len(c.endpoints))
	d.containers = make(map[string]*resident, 2*len(c.containers))
	d.namespaces = make(map[string]int)
	d.veths = make(map[string]int, len(c.endpoints))
	d.addrs = make(map[netip.Addr]int, len(c.endpoints))
	for _, ep := range c.endpoints {
		d.endpoints[ep.name] = ep.view
		d.veths[ep.Veth] = ep.view
		if _, taken := d.namespaces[ep.Namespace]; ep.Namespace != "" && !taken {
			d.namespaces[ep.Namespace] = ep.view
		}
		for _, a := range ep.addrs {
			d.addrs[a] = ep.view
		}
	}
	for _, ct := range c.containers {
		r := c.resident(ct)
		d.containers[ct.ID] = r
		d.ids = append(d.ids, ct.ID)
		if ct.Name != "" {
			d.containers[ct.Name] = r
		}
	}
	slices.Sort(d.ids)
}

// resident looks at where a container is, through container:X to X.
func (c *compiler) resident(ct *container) *resident {
	r := &resident{name: ct.Name, id: ct.ID, main: -1}
	if r.name == "" {
		r.name = ct.ID
	}
	owner := ct.owner
	if owner == nil {
		r.why = "shares the network of a container that does not run"
		return r
	}
	r.mode = owner.NetworkMode
	switch {
	case owner.main != nil:
		r.main = owner.main.view
	case r.mode == "host":
		r.why = "uses the host's network"
	case r.mode == "none":
		r.why = "has no network"
	default:
		r.why = c.whyNowhere(owner)
	}
	return r
}

// whyNowhere says why a container with networks has no endpoint.
func (c *compiler) whyNowhere(ct *container) string {
	var detached []string
	for i := range ct.Attachments {
		at := &ct.Attachments[i]
		if c.bridgeOf(at) != nil {
			return "is not on its bridge yet"
		}
		for j := range c.o.Networks {
			if n := &c.o.Networks[j]; n.ID == at.NetworkID && n.ID != "" || at.NetworkID == "" && n.Name == at.Network {
				detached = append(detached, n.Bridge)
			}
		}
	}
	if len(detached) == 0 {
		return "is in no bridge network"
	}
	slices.Sort(detached)
	return fmt.Sprintf("is on no attached bridge: run `ebpfnet attach --bridge %s`", detached[0])
}

// Endpoint finds an endpoint by its own name, by its container's name or id (four or more characters of it that no other has), by its
// namespace, by its veth or by an address. Of a container with several endpoints it is the main one.
func (r *Result) Endpoint(name string) (*EndpointView, error) {
	i, res, err := r.names.find(name)
	if err != nil {
		return nil, err
	}
	if i < 0 {
		return nil, fmt.Errorf("container %s %s: it has no endpoint", res.name, res.why)
	}
	return &r.Endpoints[i], nil
}

// find gives the index of an endpoint. Where the name is a container's, it is given too; its endpoint may be -1 then. The beginning of an id
// comes last, since it may look like anything.
func (d *directory) find(name string) (int, *resident, error) {
	name = strings.TrimPrefix(name, "/")
	if res := d.containers[name]; res != nil {
		return res.main, res, nil
	}
	for _, by := range []map[string]int{d.endpoints, d.namespaces, d.veths} {
		if i, ok := by[name]; ok {
			return i, nil, nil
		}
	}
	if a, err := netip.ParseAddr(name); err == nil {
		if i, ok := d.addrs[a.Unmap()]; ok {
			return i, nil, nil
		}
		return -1, nil, fmt.Errorf("no endpoint has the address %s", name)
	}
	res, err := d.byPrefix(name)
	if err != nil {
		return -1, nil, err
	}
	if res == nil {
		return -1, nil, fmt.Errorf("no running container, namespace, veth or address is called %s", name)
	}
	return res.main, res, nil
}

// byPrefix finds a running container by the beginning of its id; nil where there is none, an error where there are several.
func (d *directory) byPrefix(name string) (*resident, error) {
	if len(name) < minIDPrefix {
		return nil, nil
	}
	first, _ := slices.BinarySearch(d.ids, name)
	last := first
	for last < len(d.ids) && strings.HasPrefix(d.ids[last], name) {
		last++
	}
	switch last - first {
	case 0:
		return nil, nil
	case 1:
		return d.containers[d.ids[first]], nil
	}
	var names []string
	for _, id := range d.ids[first:last] {
		names = append(names, d.containers[id].name)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("%s begins the ids of %d containers: %s", name, last-first, listed(names))
}

// listed joins names for one line, and cuts a long list.
func listed(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
