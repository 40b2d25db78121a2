package policy

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// compareAddrs lets cmp look at addresses and prefixes, which have unexported fields.
func compareAddrs() cmp.Option {
	return cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})
}

func TestParsePublish(t *testing.T) {
	every := netip.Addr{}
	for _, tc := range []struct {
		name string
		in   string
		want PublishSpec
		text string // String(); in itself where empty
	}{
		{"port", "80:8080/tcp", PublishSpec{every, 80, 80, 8080, 8080, ProtoTCP}, ""},
		{"default protocol", "80:8080", PublishSpec{every, 80, 80, 8080, 8080, ProtoTCP}, "80:8080/tcp"},
		{"udp", "53:53/udp", PublishSpec{every, 53, 53, 53, 53, ProtoUDP}, ""}, // H-9
		{"sctp", "36412:36412/sctp", PublishSpec{every, 36412, 36412, 36412, 36412, ProtoSCTP}, ""},
		{"upper case", "80:80/UDP", PublishSpec{every, 80, 80, 80, 80, ProtoUDP}, "80:80/udp"},
		{"address", "127.0.0.1:80:80/tcp", PublishSpec{netip.MustParseAddr("127.0.0.1"), 80, 80, 80, 80, ProtoTCP}, ""}, // H-6
		{"every address", "0.0.0.0:80:80/tcp", PublishSpec{every, 80, 80, 80, 80, ProtoTCP}, "80:80/tcp"},
		{"range", "8000-8010:9000-9010/tcp", PublishSpec{every, 8000, 8010, 9000, 9010, ProtoTCP}, ""},
		{"range of one", "80-80:81/tcp", PublishSpec{every, 80, 80, 81, 81, ProtoTCP}, "80:81/tcp"},
		{"every port", "1-65535:1-65535/tcp", PublishSpec{every, 1, 65535, 1, 65535, ProtoTCP}, ""}, // H-12
		{"address and range", "10.0.0.1:1-2:3-4/udp", PublishSpec{netip.MustParseAddr("10.0.0.1"), 1, 2, 3, 4, ProtoUDP}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParsePublish(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, compareAddrs()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			text := tc.text
			if text == "" {
				text = tc.in
			}
			if got.String() != text {
				t.Errorf("String() = %q, want %q", got.String(), text)
			}
			again, err := ParsePublish(got.String())
			if err != nil || again != got {
				t.Errorf("reading %q back: %v, %v", got.String(), again, err)
			}
		})
	}
}

func TestParsePublishErrors(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"", "no container port"},
		{"80", "no container port"},
		{":80", `"" is not a port`},
		{"80:", `"" is not a port`},
		{"0:80", "port 0 is not between 1 and 65535"},
		{"80:0", "port 0 is not between 1 and 65535"},
		{"70000:80", "port 70000 is not between 1 and 65535"},
		{"80:99999999999999999999", "is not between 1 and 65535"},
		{"-1:80", `"" is not a port`},
		{"+80:80", `"+80" is not a port`},
		{"http:80", `"http" is not a port`},
		{" 80:80", `" 80" is not a port`},
		{"90-80:90-80", "range 90-80 ends before it starts"},
		{"80-90:80", "11 host ports do not fit 1 container ports"},
		{"80-90:80-91", "11 host ports do not fit 12 container ports"},
		{"1-65535:1", "65535 host ports do not fit 1 container ports"},
		{"80:80/icmp", `protocol "icmp" is not tcp, udp or sctp`},
		{"80:80/", `protocol "" is not tcp, udp or sctp`},
		{"80:80/tcp/udp", `protocol "tcp/udp" is not tcp, udp or sctp`},
		{"[::]:80:80", "an IPv6 host address is not supported yet"},
		{"[::1]:80:80/udp", "an IPv6 host address is not supported yet"},
		{"::1:80:80", "an IPv6 host address is not supported yet"},
		{"localhost:80:80", `"localhost" is not an IPv4 address`},
		{"300.0.0.1:80:80", `"300.0.0.1" is not an IPv4 address`},
		{"224.0.0.1:80:80", "224.0.0.1 is not an address that a host can have"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			_, err := ParsePublish(tc.in)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error = %v, want it to contain %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error has more than one line: %q", err)
			}
		})
	}
}

func TestParseUnpublish(t *testing.T) {
	for _, tc := range []struct {
		in, text, err string
		want          HostPorts
	}{
		{in: "80", text: "80/tcp", want: HostPorts{Start: 80, End: 80, Proto: ProtoTCP}},
		{in: "80/udp", text: "80/udp", want: HostPorts{Start: 80, End: 80, Proto: ProtoUDP}},
		{in: "80-90", text: "80-90/tcp", want: HostPorts{Start: 80, End: 90, Proto: ProtoTCP}},
		{in: "0.0.0.0:80", text: "80/tcp", want: HostPorts{Start: 80, End: 80, Proto: ProtoTCP}},
		{in: "10.0.0.1:80-81/udp", text: "10.0.0.1:80-81/udp",
			want: HostPorts{HostIP: netip.MustParseAddr("10.0.0.1"), Start: 80, End: 81, Proto: ProtoUDP}},
		{in: "80:80", err: "leave the container's port out"},
		{in: "10.0.0.1:80-81:80-81", err: "leave the container's port out"},
		{in: "a:b:80", err: "too many colons"},
		{in: "0", err: "port 0 is not between"},
		{in: "", err: `"" is not a port`},
		{in: "[::]:80", err: "IPv6"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			got, err := ParseUnpublish(tc.in)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error = %v, want it to contain %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got != tc.want || got.String() != tc.text {
				t.Errorf("got %+v %q, want %+v %q", got, got, tc.want, tc.text)
			}
		})
	}
}

func TestPublishSpecConflicts(t *testing.T) {
	for _, tc := range []struct {
		name, a, b string
		want       bool
	}{
		{"equal", "80:80", "80:81", true},
		{"other port", "80:80", "81:80", false},
		{"other protocol", "80:80/tcp", "80:80/udp", false},                   // H-9
		{"every address and a certain one", "80:80", "10.0.0.1:80:80", false}, // H-6
		{"two addresses", "10.0.0.1:80:80", "10.0.0.2:80:80", false},          // H-6
		{"one address", "10.0.0.1:80:80", "10.0.0.1:80:8080", true},           // H-6
		{"inside a range", "80-90:80-90", "85:85", true},
		{"ranges that touch", "80-90:80-90", "90-99:90-99", true},
		{"ranges side by side", "80-90:80-90", "91-99:91-99", false},
		{"ranges of two protocols", "80-90:80-90/udp", "85:85/tcp", false},
		{"container ports do not matter", "80-81:1000-1001", "82:1000/tcp", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := mustParse(t, tc.a), mustParse(t, tc.b)
			if a.Conflicts(b) != tc.want || b.Conflicts(a) != tc.want {
				t.Errorf("conflicts = %v and %v, want %v", a.Conflicts(b), b.Conflicts(a), tc.want)
			}
		})
	}
}

func TestPublishSpecText(t *testing.T) {
	in := Intent{Publish: []PublishIntent{{Spec: mustParse(t, "10.0.0.1:80-81:8080-8081/udp"), Target: "web"}}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"publish":[{"spec":"10.0.0.1:80-81:8080-8081/udp","target":"web"}]}`; string(b) != want {
		t.Errorf("json = %s, want %s", b, want)
	}
	var out Intent
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, out, compareAddrs()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := json.Unmarshal([]byte(`{"publish":[{"spec":"80"}]}`), &out); err == nil {
		t.Error("a spec without a container port was read")
	}
}

func mustParse(t testing.TB, s string) PublishSpec {
	t.Helper()
	spec, err := ParsePublish(s)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}
