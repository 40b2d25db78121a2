package dashboards

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const grafanaFolder = "../../packaging/grafana"

// compose is what a docker-compose.yaml of ours may say.
type compose struct {
	Services map[string]struct {
		Image       string            `json:"image"`
		NetworkMode string            `json:"network_mode"`
		Restart     string            `json:"restart"`
		Command     []string          `json:"command"`
		DependsOn   []string          `json:"depends_on"`
		Environment map[string]string `json:"environment"`
		Volumes     []string          `json:"volumes"`
	} `json:"services"`
	Volumes map[string]any `json:"volumes"`
}

// What docker-compose.yaml mounts is there, and each program finds in its container what its configuration names.
func TestCompose(t *testing.T) {
	var c compose
	read(t, filepath.Join(grafanaFolder, "docker-compose.yaml"), &c)
	roots := map[string]string{}
	tag := regexp.MustCompile(`^[a-z]+/[a-z]+:v?\d+\.\d+\.\d+$`)
	for name, s := range c.Services {
		if !tag.MatchString(s.Image) {
			t.Errorf("%s: image %s has no version", name, s.Image)
		}
		if s.NetworkMode != "host" {
			t.Errorf("%s does not reach the agent on the host's loopback", name)
		}
		for _, d := range s.DependsOn {
			if _, ok := c.Services[d]; !ok {
				t.Errorf("%s depends on %s, which is not there", name, d)
			}
		}
		roots[name] = t.TempDir()
		for _, v := range s.Volumes {
			parts := strings.Split(v, ":")
			if _, named := c.Volumes[parts[0]]; named && len(parts) == 2 {
				continue
			}
			if len(parts) != 3 || parts[2] != "ro" || !strings.HasPrefix(parts[0], ".") {
				t.Errorf("%s: volume %s is neither named nor a read-only path from here", name, v)
				continue
			}
			mount(t, filepath.Join(grafanaFolder, parts[0]), filepath.Join(roots[name], parts[1]))
		}
	}
	t.Run("prometheus", func(t *testing.T) {
		s := c.Services["prometheus"]
		listens(t, s.Command, "--web.listen-address=127.0.0.1:9090")
		promtool(t, "check", "config", filepath.Join(roots["prometheus"], argument(t, s.Command, "--config.file=")))
	})
	t.Run("grafana", func(t *testing.T) {
		s := c.Services["grafana"]
		if s.Environment["GF_SERVER_HTTP_ADDR"] != "127.0.0.1" {
			t.Error("everybody reaches it, with a password that everybody knows")
		}
		inside := func(path string) string { return filepath.Join(roots["grafana"], path) }
		if _, err := os.Stat(inside(s.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])); err != nil {
			t.Error(err)
		}
		var source struct {
			Datasources []struct{ Type, URL string }
		}
		loose(t, inside("/etc/grafana/provisioning/datasources/prometheus.yaml"), &source)
		if len(source.Datasources) != 1 || source.Datasources[0].Type != "prometheus" || source.Datasources[0].URL != "http://127.0.0.1:9090" {
			t.Errorf("data sources are %v", source.Datasources)
		}
		var provider struct {
			Providers []struct{ Options struct{ Path string } }
		}
		loose(t, inside("/etc/grafana/provisioning/dashboards/ebpfnet.yaml"), &provider)
		if len(provider.Providers) != 1 {
			t.Fatalf("providers are %v", provider.Providers)
		}
		for _, d := range every(t) {
			if _, err := os.Stat(inside(filepath.Join(provider.Providers[0].Options.Path, d.File))); err != nil {
				t.Error(err)
			}
		}
	})
}

// mount shows a file or a folder elsewhere, as a container sees it.
func mount(t *testing.T, from, to string) {
	t.Helper()
	if _, err := os.Stat(from); err != nil {
		t.Error(err)
	}
	abs, err := filepath.Abs(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(abs, to); err != nil {
		t.Fatal(err)
	}
}

func argument(t *testing.T, command []string, flag string) string {
	t.Helper()
	for _, c := range command {
		if value, ok := strings.CutPrefix(c, flag); ok {
			return value
		}
	}
	t.Fatalf("no %s in %v", flag, command)
	return ""
}

func listens(t *testing.T, command []string, want string) {
	t.Helper()
	if !slices.Contains(command, want) {
		t.Errorf("%v lacks %s", command, want)
	}
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is missing: install Debian's package prometheus")
		}
		t.Skip("promtool is missing: install Debian's package prometheus")
	}
	if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// read takes a file in which nothing else may stand; loose takes what it knows.
func read(t *testing.T, file string, into any) {
	t.Helper()
	decode(t, file, into, yaml.UnmarshalStrict)
}
func loose(t *testing.T, file string, into any) { t.Helper(); decode(t, file, into, yaml.Unmarshal) }

func decode(t *testing.T, file string, into any, unmarshal func([]byte, any, ...yaml.JSONOpt) error) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		err = unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}
