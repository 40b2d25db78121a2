package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/ebpfnet/ebpfnet/agent/api"
)

// Monitor calls fn with each event as it comes, until fn gives an error, the context ends, or the agent does: then the error is ErrNoAgent.
// The first call is empty: from then on nothing is missed.
func (c *Client) Monitor(ctx context.Context, q api.MonitorQuery, fn func(api.Monitored) error) error {
	values := url.Values{}
	for name, v := range map[string]string{
		"container": q.Container, "proto": q.Proto, "port": q.Port, "address": q.Address, "reason": q.Reason, "drops": flag(q.Drops), "packet": flag(q.Packet),
	} {
		if v != "" {
			values.Set(name, v)
		}
	}
	resp, err := c.open(ctx, http.MethodGet, "monitor", values, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	for {
		var m api.Monitored
		if err := d.Decode(&m); err != nil {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				return ErrNoAgent
			}
			return fmt.Errorf("read the agent's answer: %w", err)
		}
		if err := fn(m); err != nil {
			return err
		}
	}
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return ""
}
