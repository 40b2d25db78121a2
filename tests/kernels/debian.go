package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// metaPackage depends on the newest kernel of a release that is made for virtual machines: small, and with what they need built in.
const metaPackage = "linux-image-cloud-amd64"

// debian is apt with folders of its own. Where the archive is it takes from the machine's configuration.
type debian struct {
	dir   string // of the lists, the packages and the configuration
	fresh time.Duration
	log   func(format string, args ...any)
}

// source is one place that packages come from, in a form that apt's configuration has.
type source struct {
	uri      string
	security bool
}

// machineSources finds Debian's archive, and the one of its security updates, in the machine's own configuration. override, if it is not
// empty, takes the place of the first.
func machineSources(override string) ([]source, error) {
	if override != "" {
		return []source{{uri: override}}, nil
	}
	out, err := output("apt-get", "indextargets", "--format", "$(ORIGIN)|$(RELEASE)|$(REPO_URI)", "Created-By: Packages")
	if err != nil {
		return nil, fmt.Errorf("find Debian's archive: %w", err)
	}
	sources := parseTargets(string(out))
	if !slices.ContainsFunc(sources, func(s source) bool { return !s.security }) {
		return nil, fmt.Errorf("find Debian's archive: apt has none configured: give one with -archive URL")
	}
	return sources, nil
}

// parseTargets reads lines of origin, suite and address.
func parseTargets(out string) []source {
	var sources []source
	for line := range strings.Lines(out) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		if len(fields) != 3 || fields[0] != "Debian" || fields[2] == "" {
			continue
		}
		s := source{uri: fields[2], security: isSecurity(fields[1])}
		if !slices.ContainsFunc(sources, func(other source) bool { return other.security == s.security }) {
			sources = append(sources, s)
		}
	}
	return sources
}

func isSecurity(suite string) bool { return strings.HasSuffix(suite, "-security") }

// sourceList is apt's configuration (sources.list(5), deb822 style) for the suites of all kernels.
func sourceList(sources []source, suites []string, keyring string) string {
	var b strings.Builder
	for _, s := range sources {
		var own []string
		for _, suite := range suites {
			if isSecurity(suite) == s.security {
				own = append(own, suite)
			}
		}
		if len(own) == 0 {
			continue
		}
		fmt.Fprintf(&b, "Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nArchitectures: amd64\n", s.uri, strings.Join(own, " "))
		if keyring != "" {
			fmt.Fprintf(&b, "Signed-By: %s\n", keyring)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// update reads the archive's lists, unless those that are here are fresh. Without the archive what is here has to do.
func (d *debian) update(sources []source, suites []string) error {
	for _, sub := range []string{"lists/partial", "cache/archives/partial", "sources", "debs"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o755); err != nil {
			return err
		}
	}
	if err := d.configure(); err != nil {
		return fmt.Errorf("configure apt: %w", err)
	}
	keyring := "/usr/share/keyrings/debian-archive-keyring.gpg"
	if _, err := os.Stat(keyring); err != nil {
		keyring = ""
	}
	list, path := []byte(sourceList(sources, suites, keyring)), filepath.Join(d.dir, "sources", "kernels.sources")
	before, _ := os.ReadFile(path)
	stamp := filepath.Join(d.dir, "updated")
	if info, err := os.Stat(stamp); err == nil && bytes.Equal(before, list) && time.Since(info.ModTime()) < d.fresh {
		return nil
	}
	if err := os.WriteFile(path, list, 0o644); err != nil {
		return err
	}
	d.log("reading the archive's lists")
	if _, err := d.apt("apt-get", "-q", "update"); err != nil {
		d.log("%v: going on with the lists that are here", err)
		return nil
	}
	return os.WriteFile(stamp, nil, 0o644)
}

// configure writes apt's configuration: the machine's own ways to the network, and folders here for everything else.
func (d *debian) configure() error {
	acquire, err := output("apt-config", "dump", "Acquire")
	if err != nil {
		return err
	}
	conf := string(acquire) + fmt.Sprintf(`
Dir::State %[1]q;
Dir::State::lists "lists";
Dir::State::status "/dev/null";
Dir::Cache "%[1]s/cache";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "%[1]s/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
Acquire::Languages "none";
// An old release's lists are not renewed any more. They are signed all the same.
Acquire::Check-Valid-Until "false";
`, d.dir)
	return os.WriteFile(filepath.Join(d.dir, "apt.conf"), []byte(conf), 0o644)
}

// apt runs one of apt's programs on the folders here.
func (d *debian) apt(name string, args ...string) ([]byte, error) {
	c := command{
		dir: filepath.Join(d.dir, "debs"),
		env: []string{"APT_CONFIG=" + filepath.Join(d.dir, "apt.conf"), "LC_ALL=C"},
	}
	return c.output(name, args...)
}

// pkg is a package of a version.
type pkg struct{ name, version string }

// find gives the packages of a kernel's newest version: the image, and those parts of it that newer releases put into packages of their own.
func (d *debian) find(k kernel) ([]pkg, error) {
	out, err := d.apt("apt-cache", "madison", metaPackage)
	if err != nil {
		return nil, fmt.Errorf("find kernel %s: %w", k.name, err)
	}
	version := ""
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(line, "|")
		if len(fields) < 3 {
			continue
		}
		v := strings.TrimSpace(fields[1])
		if k.has(v) && newer(v, version) {
			version = v
		}
	}
	if version == "" {
		return nil, fmt.Errorf("find kernel %s: the archive has none", k.name)
	}
	var all []pkg
	for queue := []pkg{{metaPackage, version}}; len(queue) > 0; queue = queue[1:] {
		out, err := d.apt("apt-cache", "show", queue[0].name+"="+queue[0].version)
		if err != nil {
			return nil, fmt.Errorf("find kernel %s: %w", k.name, err)
		}
		for _, p := range parts(string(out)) {
			if !slices.Contains(all, p) {
				all, queue = append(all, p), append(queue, p)
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("find kernel %s: %s %s depends on no image", k.name, metaPackage, version)
	}
	return all, nil
}

// parts reads from a package's description what else belongs to the same kernel: dependencies of exactly one version.
func parts(description string) []pkg {
	depends := regexp.MustCompile(`(?m)^Depends: (.*)$`).FindStringSubmatch(description)
	if depends == nil {
		return nil
	}
	var found []pkg
	for _, m := range regexp.MustCompile(`(linux-(?:image|binary|modules)-[^ ,|]+) \(= ([^)]+)\)`).FindAllStringSubmatch(depends[1], -1) {
		found = append(found, pkg{m[1], m[2]})
	}
	return found
}

// newer compares versions as dpkg does.
func newer(a, b string) bool {
	return b == "" || exec.Command("dpkg", "--compare-versions", a, "gt", b).Run() == nil
}

// unpack downloads a kernel's packages and unpacks them into a folder, which it names. Done once, it is not done again.
func (d *debian) unpack(packages []pkg) (string, error) {
	root := filepath.Join(d.dir, "..", packages[0].name+"_"+packages[0].version)
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	half := root + ".part"
	if err := os.RemoveAll(half); err != nil {
		return "", err
	}
	for _, p := range packages {
		d.log("downloading %s %s", p.name, p.version)
		if _, err := d.apt("apt-get", "-q", "download", p.name+"="+p.version); err != nil {
			return "", fmt.Errorf("download %s: %w", p.name, err)
		}
		debs, err := filepath.Glob(filepath.Join(d.dir, "debs", p.name+"_*.deb"))
		if err != nil || len(debs) == 0 {
			return "", fmt.Errorf("download %s: apt-get left no package", p.name)
		}
		for _, deb := range debs {
			if _, err := output("dpkg-deb", "-x", deb, half); err != nil {
				return "", fmt.Errorf("unpack %s: %w", p.name, err)
			}
			if err := os.Remove(deb); err != nil {
				return "", err
			}
		}
	}
	return root, os.Rename(half, root)
}
