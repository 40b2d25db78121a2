package page

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// allowed tells whether a request may be answered by its Host header. A page of somebody else's can have its own name lead to 127.0.0.1 and
// so make a browser ask here, under that name (DNS rebinding). An address has no name to rebind, and localhost and the host's own name are
// nobody else's.
func allowed(r *http.Request, names []string) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	for _, name := range names {
		if name != "" && host == strings.ToLower(strings.TrimSuffix(name, ".")) {
			return true
		}
	}
	return false
}
