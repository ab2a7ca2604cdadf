// Reads Kubernetes manifests as the API server does with strict validation: a field that is unknown or comes twice is an
// error, and so is a value of another type. Of a resource that is no part of Kubernetes or of the Prometheus operator, only
// its template of a pod is read.
// usage: go run . FILE...
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	documents "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// A game server of Agones, as far as it is a pod.
type fleet struct {
	Spec struct {
		Template struct {
			Spec struct {
				Template map[string]any `json:"template"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

func check(document []byte) (string, error) {
	kinds := runtime.NewScheme()
	known := runtime.NewSchemeBuilder(
		core.AddToScheme, apps.AddToScheme, policy.AddToScheme, autoscaling.AddToScheme, monitoring.AddToScheme)
	if err := known.AddToScheme(kinds); err != nil {
		return "", err
	}
	options := json.SerializerOptions{Yaml: true, Strict: true}
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, kinds, kinds, options)
	_, kind, err := strict.Decode(document, nil, nil)
	if err == nil || !runtime.IsNotRegisteredError(err) || kind == nil || kinds.IsGroupRegistered(kind.Group) {
		return fmt.Sprint(kind), err
	}
	var it fleet
	if err := yaml.Unmarshal(document, &it); err != nil {
		return fmt.Sprint(kind), err
	}
	pod := it.Spec.Template.Spec.Template
	if pod == nil {
		return fmt.Sprint(kind, ", not checked"), nil
	}
	text, err := yaml.Marshal(pod)
	if err != nil {
		return fmt.Sprint(kind), err
	}
	return fmt.Sprint(kind), yaml.UnmarshalStrict(text, &core.PodTemplateSpec{})
}

func main() {
	log.SetFlags(0)
	for _, file := range os.Args[1:] {
		content, err := os.ReadFile(file)
		if err != nil {
			log.Fatal(err)
		}
		reader := documents.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
		for {
			document, err := reader.Read()
			if err == io.EOF {
				break
			}
			if err != nil {
				log.Fatalf("%s: %v", file, err)
			}
			kind, err := check(document)
			if err != nil {
				log.Fatalf("%s: %s: %v", file, kind, err)
			}
			fmt.Printf("%s: %s\n", file, kind)
		}
	}
}
