// ssa applies what is in Git as Flux's kustomize-controller does, with the library that does it there, unchanged.
//
// It serves HTTP on 127.0.0.1, at the address that it prints first, and ends when its standard input does. A request is
// {"objects": [...]} to /apply, /diff or /prune; the answer says what was done with each object, as Flux names it:
// {"changes": {"Deployment/shop/cart": "configured"}}, or why not: {"error": "..."}.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/normalize"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// What kustomize-controller calls itself, and where it writes its labels.
var owner = ssa.Owner{Field: "kustomize-controller", Group: "kustomize.toolkit.fluxcd.io"}

type request struct {
	Objects []*unstructured.Unstructured `json:"objects"`
}

type answer struct {
	Changes map[string]string `json:"changes"`
	Error   string            `json:"error"`
}

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "ssa:", err)
		os.Exit(1)
	}
}

func serve() error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 1000, 1000
	kube, err := client.New(config, client.Options{})
	if err != nil {
		return err
	}
	manager := ssa.NewResourceManager(kube, nil, owner)
	for path, do := range map[string]func(context.Context, *ssa.ResourceManager, []*unstructured.Unstructured) (*ssa.ChangeSet, error){
		"/apply": apply, "/diff": diff, "/prune": prune,
	} {
		http.HandleFunc(path, func(out http.ResponseWriter, in *http.Request) {
			var wanted request
			said := answer{Changes: map[string]string{}}
			err := json.NewDecoder(in.Body).Decode(&wanted)
			if err == nil {
				err = normalize.UnstructuredList(wanted.Objects)
			}
			if err == nil {
				manager.SetOwnerLabels(wanted.Objects, "apps", "flux-system")
				var changes *ssa.ChangeSet
				if changes, err = do(in.Context(), manager, wanted.Objects); changes != nil {
					for _, each := range changes.Entries {
						said.Changes[each.Subject] = each.Action.String()
					}
				}
			}
			if err != nil {
				said.Error = err.Error()
			}
			_ = json.NewEncoder(out).Encode(said)
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.Serve(listener, nil)
}

func apply(ctx context.Context, manager *ssa.ResourceManager, objects []*unstructured.Unstructured) (*ssa.ChangeSet, error) {
	return manager.ApplyAllStaged(ctx, objects, options())
}

func diff(ctx context.Context, manager *ssa.ResourceManager, objects []*unstructured.Unstructured) (*ssa.ChangeSet, error) {
	changes := ssa.NewChangeSet()
	for _, each := range objects {
		change, _, _, err := manager.Diff(ctx, each, ssa.DefaultDiffOptions())
		if err != nil {
			return changes, err
		}
		changes.Add(*change)
	}
	return changes, nil
}

func prune(ctx context.Context, manager *ssa.ResourceManager, objects []*unstructured.Unstructured) (*ssa.ChangeSet, error) {
	found := ssa.DefaultDeleteOptions()
	found.Inclusions = manager.GetOwnerLabels("apps", "flux-system")
	return manager.DeleteAll(ctx, objects, found)
}

// options are those of kustomize-controller: it takes over what was applied with kubectl.
func options() ssa.ApplyOptions {
	found := ssa.DefaultApplyOptions()
	found.Cleanup = ssa.ApplyCleanupOptions{
		Annotations: []string{corev1.LastAppliedConfigAnnotation},
		FieldManagers: []ssa.FieldManager{
			{Name: "kubectl", OperationType: metav1.ManagedFieldsOperationApply},
			{Name: "kubectl", OperationType: metav1.ManagedFieldsOperationUpdate},
			{Name: "before-first-apply", OperationType: metav1.ManagedFieldsOperationUpdate},
			{Name: owner.Field, OperationType: metav1.ManagedFieldsOperationUpdate},
		},
		Exclusions: map[string]string{owner.Group + "/ssa": "Merge"},
	}
	return found
}
