package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTargets(t *testing.T) {
	for _, tt := range []struct {
		name, out string
		want      []source
	}{
		{"none", "", nil},
		{
			"archive, updates, security, another's",
			"Debian|bookworm|http://a.example/debian/\nDebian|bookworm-updates|http://b.example/debian/\n" +
				"nodistro|nodistro|http://c.example/\nDebian|bookworm-security|http://a.example/debian-security/\n",
			[]source{{uri: "http://a.example/debian/"}, {uri: "http://a.example/debian-security/", security: true}},
		},
		{"another distribution", "Ubuntu|noble|http://u.example/ubuntu/\n", nil},
		{"lists that were never read", "|bookworm|\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, parseTargets(tt.out), cmp.AllowUnexported(source{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSourceList(t *testing.T) {
	sources := []source{{uri: "http://a.example/debian/"}, {uri: "http://a.example/debian-security/", security: true}}
	want := `Types: deb
URIs: http://a.example/debian/
Suites: bullseye sid
Components: main
Architectures: amd64
Signed-By: /keys.gpg

Types: deb
URIs: http://a.example/debian-security/
Suites: bullseye-security
Components: main
Architectures: amd64
Signed-By: /keys.gpg

`
	got := sourceList(sources, []string{"bullseye", "bullseye-security", "sid"}, "/keys.gpg")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParts(t *testing.T) {
	for _, tt := range []struct {
		name, description string
		want              []pkg
	}{
		{
			"meta package", "Package: linux-image-cloud-amd64\nDepends: linux-image-5.10.0-46-cloud-amd64 (= 5.10.262-1)\n",
			[]pkg{{"linux-image-5.10.0-46-cloud-amd64", "5.10.262-1"}},
		},
		{
			"image whole", "Depends: kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool\n", nil,
		},
		{
			"image in parts", "Depends: dracut | initramfs-tools (>= 0.120+deb8u2), linux-base-7.2.13+deb14-cloud-amd64 (= 7.2.13-1), " +
				"linux-binary-7.2.13+deb14-cloud-amd64 (= 7.2.13-1), linux-modules-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)\n",
			[]pkg{{"linux-binary-7.2.13+deb14-cloud-amd64", "7.2.13-1"}, {"linux-modules-7.2.13+deb14-cloud-amd64", "7.2.13-1"}},
		},
		{"nothing", "Package: x\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, parts(tt.description), cmp.AllowUnexported(pkg{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
