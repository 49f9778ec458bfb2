package deploy_test

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// A cloudRunService has the fields that Cloud Run reads in a service.yaml. Containers and probes are Kubernetes' own.
type cloudRunService struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Template struct {
			metav1.ObjectMeta `json:"metadata"`
			Spec              struct {
				ServiceAccountName   string             `json:"serviceAccountName"`
				ContainerConcurrency int                `json:"containerConcurrency"`
				TimeoutSeconds       int                `json:"timeoutSeconds"`
				Containers           []corev1.Container `json:"containers"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

// cloudRunAnnotations are those of the reference of service YAML that occur here: a misspelt one would do nothing, silently.
var cloudRunAnnotations = map[string]bool{
	"run.googleapis.com/ingress":            true,
	"autoscaling.knative.dev/minScale":      true,
	"autoscaling.knative.dev/maxScale":      true,
	"run.googleapis.com/cpu-throttling":     true,
	"run.googleapis.com/network-interfaces": true,
	"run.googleapis.com/vpc-access-egress":  true,
}

func TestCloudRun(t *testing.T) {
	t.Parallel()
	var service cloudRunService
	if err := yaml.UnmarshalStrict(read(t, "cloudrun/service.yaml"), &service); err != nil {
		t.Fatal(err)
	}
	if service.APIVersion != "serving.knative.dev/v1" || service.Kind != "Service" {
		t.Errorf("it is a %s %s", service.APIVersion, service.Kind)
	}
	template := service.Spec.Template
	for _, annotations := range []map[string]string{service.Annotations, template.Annotations} {
		for name := range annotations {
			if !cloudRunAnnotations[name] {
				t.Errorf("unknown annotation %s", name)
			}
		}
	}
	if template.Annotations["run.googleapis.com/cpu-throttling"] != "false" {
		t.Error("without CPU between requests, a call that was cut stands still and the lease runs out")
	}
	if n := template.Spec.TimeoutSeconds; n < 1 || n > 3600 {
		t.Errorf("timeoutSeconds is %d, want at most an hour", n)
	}
	if n := template.Spec.ContainerConcurrency; n < 1 || n > 1000 {
		t.Errorf("containerConcurrency is %d, want at most 1000", n)
	}

	c := template.Spec.Containers[0]
	if len(c.Ports) != 1 || c.Ports[0].Name != "h2c" {
		t.Fatalf("ports %v, want one named h2c", c.Ports)
	}
	env := environment(t, c)
	for _, name := range []string{"PORT", "MCP_SERVER_PORT"} {
		if _, set := env[name]; set {
			t.Errorf("%s is set: the port is for Cloud Run to choose", name)
		}
	}
	grace, err := time.ParseDuration(env["MCP_SHUTDOWN_GRACE"])
	if err != nil || grace > 9*time.Second {
		t.Errorf("MCP_SHUTDOWN_GRACE is %v (%v): Cloud Run kills after ten seconds", grace, err)
	}
	if soft := quantity(t, strings.TrimSuffix(env["GOMEMLIMIT"], "B")); soft.Cmp(*c.Resources.Limits.Memory()) >= 0 {
		t.Errorf("GOMEMLIMIT is %s, and the instance is killed at %s", env["GOMEMLIMIT"], c.Resources.Limits.Memory())
	}

	port := freePort(t)
	env["PORT"] = strconv.Itoa(port)
	s := start(t, env)
	if _, got, _ := net.SplitHostPort(s.addr); got != env["PORT"] {
		t.Errorf("listens on %s, and PORT is %s", got, env["PORT"])
	}
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe} {
		s.probe(overHTTP1(), probe.HTTPGet.Path) // the probes of Cloud Run speak HTTP/1.1
		s.probe(overH2C(), probe.HTTPGet.Path)   // and its front end HTTP/2, on the same port
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
}

func overHTTP1() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

func overH2C() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: protocols}}
}

func quantity(t testing.TB, s string) resource.Quantity {
	t.Helper()
	q, err := resource.ParseQuantity(s)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return q
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
