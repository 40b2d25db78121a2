package lease

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// Times of a look at an endpoint: for the connection, and for what a server says that does not want it.
const (
	probeTimeout = time.Second
	refusalTime  = 200 * time.Millisecond
)

// explain adds to an error that only says that etcd has not answered in time what one meets who knocks at its doors: nobody there, or a
// certificate that one side does not take. The client keeps that to itself.
func (e *Etcd) explain(ctx context.Context, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return err
	}
	var causes []string
	for _, endpoint := range e.Endpoints {
		if cause := e.knock(ctx, endpoint); cause != nil {
			causes = append(causes, fmt.Sprintf("%s: %v", endpoint, cause))
		}
	}
	if len(causes) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.Join(causes, "; "))
}

// knock connects to an endpoint as a client does. nil: nothing speaks against it.
func (e *Etcd) knock(ctx context.Context, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if u.Scheme != "https" {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
		if err != nil {
			return err
		}
		return c.Close()
	}
	config, err := e.tls()
	if err != nil {
		return err
	}
	c, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	defer c.Close()
	// With TLS 1.3 a server says only afterwards that it does not take a certificate (RFC 8446, section 4.4.2.4).
	if err := c.SetReadDeadline(time.Now().Add(refusalTime)); err != nil {
		return err
	}
	if _, err = c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}
