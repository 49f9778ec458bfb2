package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	composetypes "github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

// A koConfig has the fields of a .ko.yaml that we use.
type koConfig struct {
	DefaultBaseImage string   `json:"defaultBaseImage"`
	DefaultPlatforms []string `json:"defaultPlatforms"`
	Builds           []struct {
		ID      string   `json:"id"`
		Main    string   `json:"main"`
		Env     []string `json:"env"`
		Flags   []string `json:"flags"`
		Ldflags []string `json:"ldflags"`
	} `json:"builds"`
}

// TestBothImagesAreTheSame holds ko's settings against the Dockerfile, which is built for real by TestMain.
func TestBothImagesAreTheSame(t *testing.T) {
	t.Parallel()
	var ko koConfig
	if err := yaml.UnmarshalStrict(read(t, "../.ko.yaml"), &ko); err != nil {
		t.Fatal(err)
	}
	dockerfile := string(read(t, "../Dockerfile"))
	froms := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(dockerfile, -1)
	if base := froms[len(froms)-1][1]; base != ko.DefaultBaseImage {
		t.Errorf("the Dockerfile's base is %s, ko's %s", base, ko.DefaultBaseImage)
	}
	if !regexp.MustCompile(`(?m)^USER [1-9]\d*:[1-9]\d*$`).MatchString(dockerfile) {
		t.Error("the Dockerfile's user is not a number other than 0: runAsNonRoot refuses a name")
	}
	if regexp.MustCompile(`(?m)^ENV.* MCP_SERVER_PORT=`).MatchString(dockerfile) {
		t.Error("the Dockerfile sets MCP_SERVER_PORT, which wins over the PORT that Cloud Run sets")
	}
	build, err := buildCommand()
	if err != nil {
		t.Fatal(err)
	}
	b := ko.Builds[0]
	if want := "go build " + strings.Join(b.Flags, " ") + ` -ldflags "` + strings.Join(b.Ldflags, " ") + `" -o "$OUT/server" ` + b.Main; build != want {
		t.Errorf("the Dockerfile builds with\n%s\nand ko with\n%s", build, want)
	}
	if !slices.Contains(b.Env, "CGO_ENABLED=0") || !strings.Contains(dockerfile, "CGO_ENABLED=0") {
		t.Error("one of them does not build a static binary")
	}
	for _, name := range regexp.MustCompile(`\b([A-Z_]+)=`).FindAllStringSubmatch(regexp.MustCompile(`(?ms)^FROM [^\n]*distroless.*`).FindString(dockerfile), -1) {
		if !known(name[1]) {
			t.Errorf("Dockerfile: the program does not know %s", name[1])
		}
	}
}

// TestReadOnlyRoot runs the program as the image does: alone, nothing writable, not root.
func TestReadOnlyRoot(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("unshare")
	require(t, err == nil && os.Geteuid() == 0, "root, and unshare to make a read-only root")
	root := worldReadable(t)
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "server"), binary, 0o755); err != nil {
		t.Fatal(err)
	}
	// What is mounted in a namespace of its own goes with the process, which each step becomes.
	inside := func(cmd *exec.Cmd) {
		cmd.Path, _ = exec.LookPath("unshare")
		cmd.Args = []string{
			"unshare", "--mount", "sh", "-ec",
			`mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"; touch "$0/x" 2>/dev/null && exit 99; exec chroot --userspec=65532:65532 "$0" /server`, root,
		}
		cmd.Env = append(cmd.Env, "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	}
	s := start(t, map[string]string{"MCP_SERVER_HOST": "0.0.0.0"}, inside)
	c := connect(t, overHTTP1(), "http://"+s.addr+"/mcp", "2025-11-25")
	if got := c.call(1, "add", `{"a":10,"b":5}`).result(); !strings.Contains(got, `"text":"15"`) {
		t.Errorf("add(10, 5): %s", got)
	}
}

func TestCompose(t *testing.T) {
	t.Parallel()
	if options, err := cli.NewProjectOptions([]string{"compose/compose.yaml"}); err != nil {
		t.Fatal(err)
	} else if _, err := options.LoadProject(t.Context()); err == nil || !strings.Contains(err.Error(), "docs/container.md says") {
		t.Errorf("without keys: %v", err)
	}
	options, err := cli.NewProjectOptions([]string{"compose/compose.yaml"},
		cli.WithEnv([]string{"MCP_STATE_KEYS=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context()) // against the schema: unknown keys are errors
	if err != nil {
		t.Fatal(err)
	}
	dockerfile := string(read(t, "../Dockerfile"))
	for name, service := range project.Services {
		if !service.ReadOnly || !slices.Equal(service.CapDrop, []string{"ALL"}) || !slices.Equal(service.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s is not locked down", name)
		}
		for dependency, condition := range service.DependsOn {
			theirs := project.Services[dependency]
			hasCheck := theirs.HealthCheck != nil || theirs.Build != nil && strings.Contains(dockerfile, "\nHEALTHCHECK ")
			if condition.Condition != composetypes.ServiceConditionHealthy || !hasCheck {
				t.Errorf("%s waits for %s, which never gets healthy", name, dependency)
			}
		}
	}
	if context := project.Services["server-1"].Build.Context; context != abs(t, "..") {
		t.Errorf("server-1 is built from %s", context)
	}

	upstreams := *project.Services["nginx"].Environment["MCP_UPSTREAMS"]
	for _, name := range []string{"server-1", "server-2"} {
		service := project.Services[name]
		env := map[string]string{}
		for variable, value := range service.Environment {
			if !known(variable) {
				t.Errorf("%s: the program does not know %s", name, variable)
			}
			env[variable] = *value
		}
		grace, err := time.ParseDuration(env["MCP_SHUTDOWN_GRACE"])
		if err != nil || service.StopGracePeriod == nil || time.Duration(*service.StopGracePeriod) < grace+3*time.Second {
			t.Errorf("%s: killed after %v, and the drain takes %v (%v)", name, service.StopGracePeriod, grace, err)
		}
		if want := "server " + name + ":8000;"; !strings.Contains(upstreams, want) || !strings.Contains(dockerfile, "\nEXPOSE 8000") {
			t.Errorf("nginx does not know %s: %s", want, upstreams)
		}
		if host := "redis://valkey:6379"; env["MCP_STORE_URL"] != host {
			t.Errorf("%s: the store is %s", name, env["MCP_STORE_URL"])
		}
		env["MCP_STORE_URL"] = "memory:"
		start(t, env).probe(overHTTP1(), "/readyz")
	}
	if command := strings.Join(project.Services["valkey"].Command, " "); !strings.Contains(command, "--maxmemory-policy noeviction") {
		t.Errorf("valkey evicts: %s", command)
	}
	mounted := project.Services["nginx"].Volumes[0]
	if mounted.Source != abs(t, template) || !strings.HasPrefix(mounted.Target, "/etc/nginx/templates/") || !strings.HasSuffix(mounted.Target, ".template") {
		t.Errorf("nginx gets %s at %s", mounted.Source, mounted.Target)
	}
	for name := range project.Services["nginx"].Environment {
		if !strings.Contains(string(read(t, template)), "${"+name+"}") {
			t.Errorf("%s does not use %s", template, name)
		}
	}
}

func abs(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// worldReadable returns a directory that other users can reach, unlike that of t.TempDir.
func worldReadable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "deploy_test") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestObservedCompose holds the file that adds Prometheus and Grafana to the one that it is laid over.
func TestObservedCompose(t *testing.T) {
	t.Parallel()
	options, err := cli.NewProjectOptions([]string{"compose/compose.yaml", "observability/compose.yaml"},
		cli.WithEnv([]string{"MCP_STATE_KEYS=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	scraped := string(read(t, "observability/prometheus.yaml"))
	for _, name := range []string{"server-1", "server-2"} {
		s := project.Services[name]
		_, port, _ := strings.Cut(*s.Environment["MCP_METRICS_ADDR"], ":")
		if !strings.Contains(scraped, name+":"+port) {
			t.Errorf("%s is not scraped at %s", name, port)
		}
		if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
			t.Error(err)
		}
		if s.Environment["MCP_STORE_URL"] == nil || !s.ReadOnly || len(s.Ports) > 0 {
			t.Errorf("%s has lost what it had: %+v", name, s)
		}
	}
	for _, name := range []string{"prometheus", "grafana"} {
		for _, port := range project.Services[name].Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s is open to the world", name)
			}
		}
		for _, volume := range project.Services[name].Volumes {
			if _, err := os.Stat(volume.Source); err != nil {
				t.Error(err)
			}
		}
	}
}
