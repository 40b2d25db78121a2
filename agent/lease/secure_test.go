package lease

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// authority signs certificates.
type authority struct {
	t    testing.TB
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, dir: t.TempDir(), key: key}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// issue makes a certificate and its key, for a server on this machine and for clients.
func (a *authority) issue(name string) (cert, key string) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".pem", "CERTIFICATE", der)
	if der, err = x509.MarshalECPrivateKey(private); err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".key", "EC PRIVATE KEY", der)
	return a.path(name + ".pem"), a.path(name + ".key")
}

// overlay E5: an etcd that asks for certificates gets them; without one, and with an authority that is not the server's, a host says what is
// wrong, and goes on trying.
func TestCertificates(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	serverCert, serverKey := ca.issue("server")
	s := unstartedStore(t)
	s.client = strings.Replace(s.client, "http:", "https:", 1)
	s.flags = []string{"--cert-file", serverCert, "--key-file", serverKey, "--client-cert-auth", "--trusted-ca-file", ca.path("ca.pem")}
	s.etcd.CACert = ca.path("ca.pem")
	s.etcd.Cert, s.etcd.Key = ca.issue("host")
	s.start()
	s.connect()
	s.put("config", sixteenVXLAN)

	h := s.host(s.options(1))
	h.untilJoined(t)
	for name, c := range map[string]struct {
		change func(*Etcd)
		want   string
	}{
		"no certificate":  {func(e *Etcd) { e.Cert, e.Key = "", "" }, "certificate"},
		"wrong authority": {func(e *Etcd) { e.CACert = other.path("ca.pem") }, "certificate"},
		"another's certificate": {func(e *Etcd) {
			e.Cert, e.Key = other.issue("stranger")
		}, "certificate"},
	} {
		o := s.options(2)
		o.Etcd.Endpoints = []string{s.client}
		c.change(&o.Etcd)
		stranger := s.host(o)
		until(t, name+": it is said", func() bool { return strings.Contains(stranger.View().Problem, c.want) })
		if v := stranger.View(); v.State == Joined {
			t.Errorf("%s: %+v", name, v)
		}
		if err := stranger.stop(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	missing := s.options(3)
	missing.Etcd.CACert = filepath.Join(t.TempDir(), "none.pem")
	if _, err := New(missing); err == nil {
		t.Error("an authority that is not there is no error")
	}
}

// overlay E5: user and password, and a prefix of one's own.
func TestPassword(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	ctx := context.Background()
	steps := []func() error{
		func() error { _, err := s.c.UserAdd(ctx, "root", "secret"); return err },
		func() error { _, err := s.c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := s.c.RoleAdd(ctx, "host"); return err },
		func() error {
			_, err := s.c.RoleGrantPermission(ctx, "host", DefaultPrefix+"/", clientv3.GetPrefixRangeEnd(DefaultPrefix+"/"), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := s.c.UserAdd(ctx, "host", "word"); return err },
		func() error { _, err := s.c.UserGrantRole(ctx, "host", "host"); return err },
		func() error { _, err := s.c.AuthEnable(ctx); return err },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	o := s.options(1)
	o.Etcd.User, o.Etcd.Password = "host", "word"
	h := s.host(o)
	h.untilJoined(t)
	for name, user := range map[string][2]string{"wrong password": {"host", "other"}, "no user": {"", ""}} {
		o := s.options(2)
		o.Etcd.User, o.Etcd.Password = user[0], user[1]
		stranger := s.host(o)
		until(t, name+": it is said", func() bool {
			p := stranger.View().Problem
			return strings.Contains(p, "authentication failed") || strings.Contains(p, "user name is empty")
		})
		if err := stranger.stop(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// overlay E2: a host that has a user does without etcd for a while as any other does.
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	s.stop()
	h = s.host(o)
	until(t, "it is said that etcd is away", func() bool { return strings.Contains(h.View().Problem, "refused") })
	s.start()
	h.untilJoined(t)
}

// overlay E5: networks under two prefixes of one etcd know nothing of each other, also from one host.
func TestTwoNetworks(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.put("config", sixteenVXLAN)
	ctx := context.Background()
	if _, err := s.c.Put(ctx, "/second/network/config", `{"Network":"10.201.0.0/16","Backend":{"Type":"host-gw"}}`); err != nil {
		t.Fatal(err)
	}
	var hosts [2][2]*host
	for n := range 2 {
		for network := range 2 {
			o := s.options(1 + n)
			if network == 1 {
				o.Etcd.Prefix = "/second/network"
			}
			hosts[n][network] = s.host(o)
		}
	}
	for n := range 2 {
		for network := range 2 {
			hosts[n][network].untilJoined(t)
		}
	}
	for n := range 2 {
		for network, third := range []string{"10.200.", "10.201."} {
			h := hosts[n][network]
			if subnet := h.View().Subnet; !strings.HasPrefix(subnet.String(), third) {
				t.Errorf("%s in network %d", subnet, network)
			}
			h.untilPeers(t, 1)
			if peer := h.View().Peers[0]; peer.Subnet != hosts[1-n][network].View().Subnet {
				t.Errorf("peer %+v in network %d", peer, network)
			}
		}
	}
}
