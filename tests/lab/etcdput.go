package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// EtcdWrites is a connection to a segment's etcd that stays open, for tests that measure: to start etcdctl takes longer than what they look at.
type EtcdWrites struct {
	http http.Client
	url  string
}

// EtcdWrites opens one. The test's end closes it.
func (g *Segment) EtcdWrites(t testing.TB) *EtcdWrites {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		err = g.Router.Do(func() error {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &EtcdWrites{http: http.Client{Transport: transport, Timeout: time.Minute}, url: etcdURL}
}

// put and deletion are requests of etcd's JSON gateway (etcd's rpc.proto). Bytes are base64 in it, as encoding/json has them.
type (
	put struct {
		Key   []byte `json:"key"`
		Value []byte `json:"value"`
	}
	deletion struct {
		Key      []byte `json:"key"`
		RangeEnd []byte `json:"range_end,omitempty"`
	}
	operation struct {
		Put    *put      `json:"requestPut,omitempty"`
		Delete *deletion `json:"requestDeleteRange,omitempty"`
	}
	transaction struct {
		Success []operation `json:"success"`
	}
)

// Record is what a host puts under a key below subnets.
type Record struct {
	Subnet string // as in the key: 10.200.3.0-24
	Value  string
}

// Put writes records, at most 128 of them at once: that is what etcd takes.
func (e *EtcdWrites) Put(t testing.TB, records ...Record) {
	t.Helper()
	var txn transaction
	for _, r := range records {
		txn.Success = append(txn.Success, operation{Put: &put{Key: []byte(subnetsKey + r.Subnet), Value: []byte(r.Value)}})
	}
	e.post(t, "/v3/kv/txn", txn)
}

// Delete removes all records from one subnet's up to, but not including, another's, in the order of their keys.
func (e *EtcdWrites) Delete(t testing.TB, from, to string) {
	t.Helper()
	e.post(t, "/v3/kv/deleterange", deletion{Key: []byte(subnetsKey + from), RangeEnd: []byte(subnetsKey + to)})
}

func (e *EtcdWrites) post(t testing.TB, path string, request any) {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	r, err := e.http.Post(e.url+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	said, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatal(fmt.Errorf("etcd %s: %s %s %w", path, r.Status, said, err))
	}
}
