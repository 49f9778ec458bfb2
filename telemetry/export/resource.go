package export

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"runtime/debug"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
)

// about says who exports: this program, and which of its replicas. What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say
// wins. Not the process's arguments, which the SDK could tell: there may be secrets among them.
func about(ctx context.Context) (*resource.Resource, error) {
	attrs := []attribute.KeyValue{
		attribute.String("service.name", filepath.Base(os.Args[0])),
		attribute.String("service.instance.id", rand.Text()),
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		attrs = append(attrs, attribute.String("service.version", info.Main.Version))
	}
	return resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(attrs...), resource.WithFromEnv())
}
