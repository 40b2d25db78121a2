package lease

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// DefaultPrefix is where flannel keeps a network.
const DefaultPrefix = "/coreos.com/network"

// Etcd says where etcd is and how to talk to it.
type Etcd struct {
	Endpoints []string // URLs
	Prefix    string   // the network's keys lie below it
	CACert    string   // file, PEM; empty: the host's own authorities
	Cert, Key string   // files, PEM: this host's; both or none
	User      string
	Password  string
}

// Times of the connection. A server refuses clients that ask for life signs more often than every 5 s.
const (
	dialTimeout     = 3 * time.Second
	lifeSign        = 6 * time.Second
	lifeSignTimeout = 4 * time.Second
	longestRedial   = time.Second
)

// Validate tells what of the options cannot be.
func (e *Etcd) Validate() error {
	if len(e.Endpoints) == 0 {
		return errors.New("etcd: no endpoint")
	}
	for _, s := range e.Endpoints {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("etcd endpoint %q: it is a URL like http://10.0.0.1:2379", s)
		}
		if u.Scheme == "http" && (e.CACert != "" || e.Cert != "") {
			return fmt.Errorf("etcd endpoint %q: certificates are for https", s)
		}
	}
	if (e.Cert == "") != (e.Key == "") {
		return errors.New("etcd: a certificate and its key go together")
	}
	if !strings.HasPrefix(e.Prefix, "/") || path.Clean(e.Prefix) != e.Prefix || e.Prefix == "/" {
		return fmt.Errorf("etcd prefix %q: it is a path like %s", e.Prefix, DefaultPrefix)
	}
	return nil
}

// dial makes a client. Nothing is sent yet, so an etcd that is away is no error.
func (e *Etcd) dial() (*clientv3.Client, error) {
	config, err := e.tls()
	if err != nil {
		return nil, err
	}
	redial := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: longestRedial}
	c, err := clientv3.New(clientv3.Config{
		Endpoints:            e.Endpoints,
		TLS:                  config,
		Username:             e.User,
		Password:             e.Password,
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    lifeSign,
		DialKeepAliveTimeout: lifeSignTimeout,
		Logger:               zap.NewNop(), // what goes wrong is told by the errors
		DialOptions:          []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: redial, MinConnectTimeout: dialTimeout})},
	})
	if err != nil {
		return nil, fmt.Errorf("etcd %s: %w", strings.Join(e.Endpoints, ","), err)
	}
	return c, nil
}

// tls gives nil where no endpoint needs it.
func (e *Etcd) tls() (*tls.Config, error) {
	if !strings.HasPrefix(e.Endpoints[0], "https:") {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.CACert != "" {
		pem, err := os.ReadFile(e.CACert)
		if err != nil {
			return nil, fmt.Errorf("etcd authority: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("etcd authority %s: no PEM certificate in it", e.CACert)
		}
	}
	if e.Cert != "" {
		pair, err := tls.LoadX509KeyPair(e.Cert, e.Key)
		if err != nil {
			return nil, fmt.Errorf("etcd certificate %s: %w", e.Cert, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// The keys of a network. Below nodes stands who is alive; flannel does not look there.
func (e *Etcd) configKey() string               { return e.Prefix + "/config" }
func (e *Etcd) subnetsPrefix() string           { return e.Prefix + "/subnets/" }
func (e *Etcd) subnetKey(element string) string { return e.subnetsPrefix() + element }
func (e *Etcd) nodesPrefix() string             { return e.Prefix + "/ebpfnet/nodes/" }
func (e *Etcd) nodeKey(node string) string      { return e.nodesPrefix() + node }
