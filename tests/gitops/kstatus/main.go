// kstatus reads Kubernetes objects from standard input, one JSON object a line, and prints for each, on one line, what
// kstatus makes of it: {"status": "InProgress", "message": "..."}.
//
// It is the library that Flux and Helm wait with, unchanged, so that tests ask the judge itself and no copy of its rules.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if err := judge(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

func judge(in io.Reader, out io.Writer) error {
	answers := json.NewEncoder(out)
	answers.SetEscapeHTML(false)
	lines := bufio.NewReader(in)
	for number := 1; ; number++ {
		line, ended := lines.ReadBytes('\n')
		if len(line) > 0 {
			object := &unstructured.Unstructured{}
			if err := object.UnmarshalJSON(line); err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
			result, err := status.Compute(object)
			if err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
			if err := answers.Encode(verdict{Status: result.Status.String(), Message: result.Message}); err != nil {
				return err
			}
		}
		if ended == io.EOF {
			return nil
		}
		if ended != nil {
			return ended
		}
	}
}
