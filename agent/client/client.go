// Package client talks to an agent over its unix socket.
//
// The invariant: it says what the agent said. It imports the shapes of agent/api and nothing else of this project.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

// ErrNoAgent says that nobody listens on the socket, or that who did has ended without an answer.
var ErrNoAgent = errors.New("no agent runs")

// ErrForbidden says that the socket is another user's.
var ErrForbidden = errors.New("the agent's socket is for root")

// RequestError is the agent's own refusal. Usage says that the request was malformed.
type RequestError struct {
	Message string
	Usage   bool
}

func (e *RequestError) Error() string { return e.Message }

// Client asks the agent behind one socket.
type Client struct{ http http.Client }

// New makes a client; it connects with each request.
func New(socket string) *Client {
	return &Client{http: http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Status asks for the agent's status.
func (c *Client) Status(ctx context.Context) (s api.Status, err error) {
	return s, c.do(ctx, http.MethodGet, "status", nil, nil, &s)
}

// Attach asks for bridges to be attached and waits until they are.
func (c *Client) Attach(ctx context.Context, r api.AttachRequest) (s api.Started, err error) {
	return s, c.do(ctx, http.MethodPost, "attach", nil, r, &s)
}

// Detach asks for bridges to be detached and waits until they are.
func (c *Client) Detach(ctx context.Context, r api.DetachRequest) error {
	return c.do(ctx, http.MethodPost, "detach", nil, r, nil)
}

// Publish asks for a port to be published and gives the port as it is in force.
func (c *Client) Publish(ctx context.Context, r api.PublishRequest) (p api.Port, err error) {
	return p, c.do(ctx, http.MethodPost, "publish", nil, r, &p)
}

// Unpublish takes back what Publish did.
func (c *Client) Unpublish(ctx context.Context, r api.UnpublishRequest) error {
	return c.do(ctx, http.MethodPost, "unpublish", nil, r, nil)
}

// Endpoints lists the endpoints of the attached bridges.
func (c *Client) Endpoints(ctx context.Context) (l []api.Endpoint, err error) {
	return l, c.do(ctx, http.MethodGet, "endpoints", nil, nil, &l)
}

// Endpoint gives the endpoint that a name, an id's beginning or an address stands for.
func (c *Client) Endpoint(ctx context.Context, name string) (e api.EndpointDetail, err error) {
	return e, c.do(ctx, http.MethodGet, "endpoint", url.Values{"name": {name}}, nil, &e)
}

// Ports lists the published ports, Docker's and the user's.
func (c *Client) Ports(ctx context.Context) (l []api.Port, err error) {
	return l, c.do(ctx, http.MethodGet, "ports", nil, nil, &l)
}

// Peers lists the other hosts.
func (c *Client) Peers(ctx context.Context) (l []api.Peer, err error) {
	return l, c.do(ctx, http.MethodGet, "peers", nil, nil, &l)
}

// AddPeer makes another host's containers reachable.
func (c *Client) AddPeer(ctx context.Context, q api.PeerRequest) error {
	return c.do(ctx, http.MethodPost, "peers/add", nil, q, nil)
}

// RemovePeer forgets another host.
func (c *Client) RemovePeer(ctx context.Context, q api.PeerRequest) error {
	return c.do(ctx, http.MethodPost, "peers/remove", nil, q, nil)
}

// Policies lists the rules that are in force.
func (c *Client) Policies(ctx context.Context) (l []api.Policy, err error) {
	return l, c.do(ctx, http.MethodGet, "policies", nil, nil, &l)
}

// ApplyPolicies puts rules in force, or says what would come of that.
func (c *Client) ApplyPolicies(ctx context.Context, q api.PolicyRequest) (p api.PolicyChange, err error) {
	return p, c.do(ctx, http.MethodPost, "policies/apply", nil, q, &p)
}

// DeletePolicy takes a policy back.
func (c *Client) DeletePolicy(ctx context.Context, q api.PolicyDelete) (p api.PolicyChange, err error) {
	return p, c.do(ctx, http.MethodPost, "policies/delete", nil, q, &p)
}

// TestPolicy asks what the rules say of a flow.
func (c *Client) TestPolicy(ctx context.Context, q api.PolicyQuery) (v api.PolicyVerdict, err error) {
	values := url.Values{"from": {q.From}, "to": {q.To}, "port": {strconv.Itoa(int(q.Port))}, "proto": {q.Proto}}
	return v, c.do(ctx, http.MethodGet, "policies/test", values, nil, &v)
}

// Trace asks what would become of a packet.
func (c *Client) Trace(ctx context.Context, q api.TraceQuery) (t api.Trace, err error) {
	return t, c.do(ctx, http.MethodPost, "trace", nil, q, &t)
}

// Flows lists the flows, of one container or protocol where they are not empty.
func (c *Client) Flows(ctx context.Context, container, proto string) (l []api.Flow, err error) {
	return l, c.do(ctx, http.MethodGet, "flows", url.Values{"container": {container}, "proto": {proto}}, nil, &l)
}

func (c *Client) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	resp, err := c.open(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil
}

// open makes a request and gives the answer, which is no refusal, for the caller to read and close.
func (c *Client) open(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
	}
	u := url.URL{Scheme: "http", Host: "agent", Path: "/v1/" + path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), &body)
	if err != nil {
		return nil, fmt.Errorf("ask agent: %w", err)
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, ErrNoAgent
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF):
		// It was there when we came, and ended before it answered.
		return nil, ErrNoAgent
	case errors.Is(err, fs.ErrPermission):
		return nil, ErrForbidden
	case errors.Is(err, context.DeadlineExceeded):
		return nil, errors.New("the agent does not answer: see its log")
	case err != nil:
		return nil, fmt.Errorf("ask agent: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		var e api.Error
		if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Message == "" {
			return nil, fmt.Errorf("ask agent: it answered %s", resp.Status)
		}
		return nil, &RequestError{Message: e.Message, Usage: e.Usage}
	}
	return resp, nil
}

// Activity asks what goes on.
func (c *Client) Activity(ctx context.Context) (a api.Activity, err error) {
	return a, c.do(ctx, http.MethodGet, "activity", nil, nil, &a)
}
