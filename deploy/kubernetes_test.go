package deploy_test

import (
	"bytes"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// kinds are all that occur; a manifest of another kind fails.
var kinds = map[string]func() metav1.Object{
	"apps/v1 Deployment":                     func() metav1.Object { return new(appsv1.Deployment) },
	"autoscaling/v2 HorizontalPodAutoscaler": func() metav1.Object { return new(autoscalingv2.HorizontalPodAutoscaler) },
	"gateway.networking.k8s.io/v1 HTTPRoute": func() metav1.Object { return new(gatewayv1.HTTPRoute) },
	"networking.k8s.io/v1 Ingress":           func() metav1.Object { return new(networkingv1.Ingress) },
	"networking.k8s.io/v1 NetworkPolicy":     func() metav1.Object { return new(networkingv1.NetworkPolicy) },
	"policy/v1 PodDisruptionBudget":          func() metav1.Object { return new(policyv1.PodDisruptionBudget) },
	"v1 ConfigMap":                           func() metav1.Object { return new(corev1.ConfigMap) },
	"v1 Service":                             func() metav1.Object { return new(corev1.Service) },
}

// decode reads the documents of a manifest, and knows every field in them.
func decode(t *testing.T, name string, data []byte) []metav1.Object {
	t.Helper()
	var objects []metav1.Object
	for doc := range bytes.SplitSeq(data, []byte("\n---\n")) {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal(doc, &meta); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		kind, ok := kinds[meta.APIVersion+" "+meta.Kind]
		if !ok {
			t.Fatalf("%s: unknown kind %s %s", name, meta.APIVersion, meta.Kind)
		}
		object := kind()
		if err := yaml.UnmarshalStrict(doc, object); err != nil {
			t.Fatalf("%s: %s: %v", name, meta.Kind, err)
		}
		if object.GetName() == "" {
			t.Errorf("%s: a %s without a name", name, meta.Kind)
		}
		objects = append(objects, object)
	}
	return objects
}

func TestManifestsDecodeStrictly(t *testing.T) {
	t.Parallel()
	listed := map[string]bool{}
	var manifests []string
	err := filepath.WalkDir("kubernetes", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if d.Name() != "kustomization.yaml" {
			manifests = append(manifests, path)
			decode(t, path, read(t, path))
			return nil
		}
		var k types.Kustomization
		if err := yaml.UnmarshalStrict(read(t, path), &k); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for _, resource := range k.Resources {
			listed[filepath.Join(filepath.Dir(path), resource)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(manifests) == 0 {
		t.Fatal("no manifests")
	}
	// A patch for what somebody else's controller brought is applied by a command in the docs.
	docs := string(read(t, "../docs/kubernetes.md"))
	for _, path := range manifests {
		if !listed[path] && !strings.Contains(docs, "--patch-file deploy/"+filepath.ToSlash(path)+"\n") {
			t.Errorf("%s: no kustomization lists it, and no command in docs/kubernetes.md applies it", path)
		}
	}
}

// A deployed is what one overlay makes of the manifests.
type deployed struct {
	*testing.T
	objects []metav1.Object
}

// overlays runs a test for the base and for each overlay, as kustomize renders them.
func overlays(t *testing.T, f func(d deployed)) {
	t.Parallel()
	for _, name := range []string{"base", "ingress-nginx", "gateway"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join("kubernetes", name))
			if err != nil {
				t.Fatal(err)
			}
			data, err := rendered.AsYaml()
			if err != nil {
				t.Fatal(err)
			}
			f(deployed{t, decode(t, name, data)})
		})
	}
}

func all[T metav1.Object](d deployed) (found []T) {
	for _, o := range d.objects {
		if o, ok := o.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// one returns the object of a type with a name.
func one[T metav1.Object](d deployed, name string) (object T) {
	d.Helper()
	for _, o := range all[T](d) {
		if o.GetName() == name {
			return o
		}
	}
	d.Fatalf("no %T named %s", object, name)
	return object
}

func (d deployed) server() (corev1.PodSpec, corev1.Container) {
	d.Helper()
	pod := one[*appsv1.Deployment](d, "mcp-server").Spec.Template.Spec
	if len(pod.Containers) != 1 {
		d.Fatalf("%d containers, want 1", len(pod.Containers))
	}
	return pod, pod.Containers[0]
}

// TestProgramAcceptsTheManifests runs the program with the pod's variables and asks what its probes ask.
func TestProgramAcceptsTheManifests(t *testing.T) {
	overlays(t, func(d deployed) {
		_, c := d.server()
		env := environment(d.T, c)
		if got, want := int(c.Ports[0].ContainerPort), env["MCP_SERVER_PORT"]; want != strconv.Itoa(got) {
			d.Errorf("containerPort %d, but MCP_SERVER_PORT is %q", got, want)
		}
		delete(env, "MCP_SERVER_PORT")
		s := start(d, env)
		for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
			if probe == nil || probe.HTTPGet == nil {
				d.Fatalf("no %s probe over HTTP", name)
			}
			if port := probe.HTTPGet.Port; port != intstr.FromString(c.Ports[0].Name) {
				d.Errorf("%s probe asks port %s, which is not %q", name, port.String(), c.Ports[0].Name)
			}
			s.probe(overHTTP1(), probe.HTTPGet.Path)
		}
		if code := s.stop(); code != 0 {
			d.Errorf("exit code %d after SIGTERM", code)
		}
		for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe} {
			if probe.HTTPGet.Path == c.ReadinessProbe.HTTPGet.Path {
				d.Errorf("%s asks for the store: a lost store would restart every replica", probe.HTTPGet.Path)
			}
		}
	})
}

// environment returns a container's variables, values made up for secrets. It fails for a name that the program does not know.
func environment(t *testing.T, c corev1.Container) map[string]string {
	t.Helper()
	env := map[string]string{}
	for _, v := range c.Env {
		if !known(v.Name) {
			t.Errorf("variable %s: the program does not know it", v.Name)
		}
		if _, twice := env[v.Name]; twice {
			t.Errorf("variable %s is set twice", v.Name)
		}
		switch {
		case v.ValueFrom == nil:
			env[v.Name] = v.Value
		case v.Name == "MCP_STORE_URL":
			env[v.Name] = "memory:"
		case v.Name == "MCP_STATE_KEYS":
			env[v.Name] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
		default:
			t.Errorf("variable %s comes from a secret that the test does not know", v.Name)
		}
	}
	for _, name := range []string{"MCP_STORE_URL", "MCP_STATE_KEYS"} {
		if env[name] == "" {
			t.Errorf("%s is not set: replicas would not share what they have to", name)
		}
	}
	if env["MCP_SERVER_HOST"] != "0.0.0.0" { // an image that ko built has no default of its own
		t.Errorf("MCP_SERVER_HOST is %q: nobody could reach the server", env["MCP_SERVER_HOST"])
	}
	return env
}

func TestGracePeriods(t *testing.T) {
	overlays(t, func(d deployed) {
		pod, c := d.server()
		grace, err := time.ParseDuration(environment(d.T, c)["MCP_SHUTDOWN_GRACE"])
		if err != nil {
			d.Fatal(err)
		}
		if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil {
			d.Fatal("no preStop sleep, and the image has no shell for another")
		}
		before := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
		// While a pod sleeps, the proxies learn that it goes.
		if before < 3*time.Second {
			d.Errorf("preStop sleeps %v only", before)
		}
		// A tenth of the grace period on top is for telling the calls that did not finish; the rest for a slow node.
		if all := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second; all < before+grace+5*time.Second {
			d.Errorf("terminationGracePeriodSeconds is %v: preStop takes %v and the drain %v", all, before, grace)
		}
	})
}

func TestPodsAreLockedDown(t *testing.T) {
	overlays(t, func(d deployed) {
		deployments := all[*appsv1.Deployment](d)
		if len(deployments) != 2 {
			d.Fatalf("%d Deployments, want the server and the store", len(deployments))
		}
		for _, deployment := range deployments {
			pod := deployment.Spec.Template.Spec
			is := func(what string, ok bool) {
				d.Helper()
				if !ok {
					d.Errorf("%s: %s", deployment.Name, what)
				}
			}
			// A Service named mcp-server would set MCP_SERVER_PORT to a URL.
			is("service links are on", pod.EnableServiceLinks != nil && !*pod.EnableServiceLinks)
			is("has a token of the cluster", pod.AutomountServiceAccountToken != nil && !*pod.AutomountServiceAccountToken)
			is("may run as root", pod.SecurityContext != nil && *pod.SecurityContext.RunAsNonRoot && *pod.SecurityContext.RunAsUser > 0)
			is("no seccomp profile", pod.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault)
			for _, c := range pod.Containers {
				sc := c.SecurityContext
				is("may gain privileges", sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation)
				is("can write its root", sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem)
				is("has capabilities", sc.Capabilities != nil && slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) && len(sc.Capabilities.Add) == 0)
				is("no memory limit", !c.Resources.Limits.Memory().IsZero())
				is("no requests", !c.Resources.Requests.Memory().IsZero() && !c.Resources.Requests.Cpu().IsZero())
			}
		}
	})
}

// TestReferences follows every name from one object to another.
func TestReferences(t *testing.T) {
	overlays(t, func(d deployed) {
		deployments := all[*appsv1.Deployment](d)
		// pods returns the templates that a selector chooses, which must be one.
		pod := func(what string, selector *metav1.LabelSelector) corev1.PodSpec {
			d.Helper()
			s, err := metav1.LabelSelectorAsSelector(selector)
			if err != nil {
				d.Fatal(err)
			}
			var chosen []corev1.PodSpec
			for _, dep := range deployments {
				if s.Matches(labels.Set(dep.Spec.Template.Labels)) {
					chosen = append(chosen, dep.Spec.Template.Spec)
				}
			}
			if len(chosen) != 1 {
				d.Fatalf("%s chooses the pods of %d Deployments, want 1", what, len(chosen))
			}
			return chosen[0]
		}
		hasPort := func(what string, pod corev1.PodSpec, port intstr.IntOrString) {
			d.Helper()
			for _, p := range pod.Containers[0].Ports {
				if port == intstr.FromString(p.Name) || port == intstr.FromInt32(p.ContainerPort) {
					return
				}
			}
			d.Errorf("%s: no container port %s", what, port.String())
		}
		for _, dep := range deployments {
			pod("Deployment "+dep.Name, dep.Spec.Selector)
		}
		for _, s := range all[*corev1.Service](d) {
			p := pod("Service "+s.Name, &metav1.LabelSelector{MatchLabels: s.Spec.Selector})
			for _, port := range s.Spec.Ports {
				hasPort("Service "+s.Name, p, port.TargetPort)
			}
			if s.Spec.SessionAffinity != "" {
				d.Errorf("Service %s: session affinity is not needed", s.Name)
			}
		}
		for _, n := range all[*networkingv1.NetworkPolicy](d) {
			p := pod("NetworkPolicy "+n.Name, &n.Spec.PodSelector)
			for _, rule := range n.Spec.Ingress {
				for _, port := range rule.Ports {
					hasPort("NetworkPolicy "+n.Name, p, *port.Port)
				}
			}
			for _, rule := range n.Spec.Egress {
				for _, to := range rule.To {
					if to.PodSelector != nil {
						hasPort("NetworkPolicy "+n.Name, pod("NetworkPolicy "+n.Name, to.PodSelector), *rule.Ports[0].Port)
					}
				}
			}
		}
		pod("PodDisruptionBudget", one[*policyv1.PodDisruptionBudget](d, "mcp-server").Spec.Selector)

		server := one[*appsv1.Deployment](d, "mcp-server")
		hpa := one[*autoscalingv2.HorizontalPodAutoscaler](d, "mcp-server").Spec
		if hpa.ScaleTargetRef != (autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: server.Name}) {
			d.Errorf("the autoscaler scales %v", hpa.ScaleTargetRef)
		}
		if hpa.MinReplicas == nil || *hpa.MinReplicas < 2 || server.Spec.Replicas != nil {
			d.Error("want two replicas at least, and their number to be the autoscaler's alone")
		}
	})
}

// TestWayIn holds the routes against the Service and against the paths that the program answers.
func TestWayIn(t *testing.T) {
	overlays(t, func(d deployed) {
		var paths []string
		service := one[*corev1.Service](d, "mcp-server")
		for _, ingress := range all[*networkingv1.Ingress](d) {
			for _, path := range ingress.Spec.Rules[0].HTTP.Paths {
				paths = append(paths, path.Path)
				if b := path.Backend.Service; b.Name != service.Name || b.Port.Name != service.Spec.Ports[0].Name {
					d.Errorf("Ingress: %s goes to %s:%s", path.Path, b.Name, b.Port.Name)
				}
			}
			streams(d, ingress.Annotations)
		}
		for _, route := range all[*gatewayv1.HTTPRoute](d) {
			for _, rule := range route.Spec.Rules {
				paths = append(paths, *rule.Matches[0].Path.Value)
				if b := rule.BackendRefs[0]; string(b.Name) != service.Name || *b.Port != service.Spec.Ports[0].Port {
					d.Errorf("HTTPRoute: goes to %s:%d", b.Name, *b.Port)
				}
			}
			if limit := route.Spec.Rules[0].Timeouts; limit == nil || *limit.Request != "0s" {
				d.Error("HTTPRoute: streams are cut by a timeout")
			}
		}
		want := 2
		if strings.HasSuffix(d.Name(), "/base") {
			want = 0
		}
		if len(paths) != want {
			d.Fatalf("paths %v, want %d", paths, want)
		}
		if len(paths) > 0 && paths[0] != settings["MCP_PATH"] {
			d.Errorf("the first path is %s, and the program's endpoint %s", paths[0], settings["MCP_PATH"])
		}
	})
}

// streams checks the annotations of both nginx controllers.
func streams(d deployed, annotations map[string]string) {
	d.Helper()
	for name, want := range map[string]string{
		"nginx.org/proxy-buffering":                           "false",
		"nginx.org/client-max-body-size":                      "4m",
		"nginx.ingress.kubernetes.io/proxy-buffering":         "off",
		"nginx.ingress.kubernetes.io/proxy-request-buffering": "off",
		"nginx.ingress.kubernetes.io/proxy-body-size":         "4m",
	} {
		if annotations[name] != want {
			d.Errorf("Ingress: %s is %q, want %q", name, annotations[name], want)
		}
	}
	for name, value := range annotations {
		if !strings.HasSuffix(name, "-timeout") {
			continue
		}
		timeout, err := time.ParseDuration(strings.TrimSuffix(value, "s") + "s")
		if err != nil || timeout < 30*time.Second { // three keep-alive comments
			d.Errorf("Ingress: %s is %q", name, value)
		}
	}
}

// TestStore holds what the servers rely on: a store that forgets nothing before its time, and does not die of its memory.
func TestStore(t *testing.T) {
	overlays(t, func(d deployed) {
		c := one[*appsv1.Deployment](d, "valkey").Spec.Template.Spec.Containers[0]
		flag := func(name string) string {
			i := slices.Index(c.Args, "--"+name)
			if i < 0 {
				d.Fatalf("no --%s", name)
			}
			return c.Args[i+1]
		}
		if policy := flag("maxmemory-policy"); policy != "noeviction" {
			d.Errorf("maxmemory-policy is %s", policy)
		}
		megabytes := regexp.MustCompile(`^(\d+)mb$`).FindStringSubmatch(flag("maxmemory"))
		if megabytes == nil {
			d.Fatalf("maxmemory is %s, want it in mb", flag("maxmemory"))
		}
		most := quantity(d.T, megabytes[1]+"Mi")
		if limit := c.Resources.Limits.Memory(); most.Cmp(*limit) >= 0 {
			d.Errorf("maxmemory is %smb, and the container is killed at %s", megabytes[1], limit)
		}
		_, server := d.server()
		for _, v := range server.Env {
			if v.Name == "GOMEMLIMIT" {
				if soft := quantity(d.T, strings.TrimSuffix(v.Value, "B")); soft.Cmp(*server.Resources.Limits.Memory()) >= 0 {
					d.Errorf("GOMEMLIMIT is %s, and the container is killed at %s", v.Value, server.Resources.Limits.Memory())
				}
			}
		}
	})
}
