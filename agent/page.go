package agent

import (
	"net"
	"net/http"
	"os"

	"github.com/ebpfnet/ebpfnet/agent/page"
)

// PageMode says where the page of what goes on is served: beside the metrics, on their address.
type PageMode string

// The page shows addresses and who talks to whom, so that by default it is for the host's own users.
const (
	PageAuto PageMode = "auto" // where the address is the loopback's
	PageOn   PageMode = "on"
	PageOff  PageMode = "off"
)

// addPage puts the page on the listener of metrics.
func (a *Agent) addPage(mux *http.ServeMux, at net.Addr) {
	tcp, ok := at.(*net.TCPAddr)
	if a.o.Page == PageOff || a.o.Page != PageOn && !(ok && tcp.IP.IsLoopback()) {
		return
	}
	hosts := a.o.PageHosts
	if name, err := os.Hostname(); err == nil {
		hosts = append([]string{name}, hosts...)
	}
	mux.Handle("/", page.Handler(a.activity, hosts))
	a.pageURL = "http://" + at.String() + "/"
}
