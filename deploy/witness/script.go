package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// A script is steps between semicolons:
//
//	wait 3s        do nothing for so long
//	forever        do nothing until SIGTERM
//	listen 15000   from now on answer every HTTP request on that port with 200; /exit/7 ends the process with 7,
//	               and /quitquitquit with 0
//	touch FILE     create it, and record that
//	until FILE     wait until it exists
//	need FILE      exit 1 if it does not exist
//	read FILE      read it, and record whether that worked
//	first FILE 3   exit 3 if FILE does not exist, and create it: the first run fails, the others do not
//	exit 3         end with that code
//
// SIGTERM ends the step in hand and the whole script. A script that ends without exit exits 0.
type step struct {
	verb  string
	words []string
}

var wordsOf = map[string]int{
	"wait": 1, "forever": 0, "listen": 1, "touch": 1, "until": 1, "need": 1, "read": 1, "first": 2, "exit": 1,
}

func parse(script string) ([]step, error) {
	var steps []step
	for line := range strings.SplitSeq(script, ";") {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		count, known := wordsOf[words[0]]
		if !known || len(words)-1 != count {
			return nil, fmt.Errorf("no such step: %q", strings.TrimSpace(line))
		}
		steps = append(steps, step{verb: words[0], words: words[1:]})
	}
	return steps, nil
}

// life is one run of the process.
type life struct {
	record *recorder
	calls  *calls
}

// follow takes the steps until they end or ctx does.
func (l *life) follow(ctx context.Context, steps []step) {
	for _, each := range steps {
		if ctx.Err() != nil {
			return
		}
		l.take(ctx, each)
	}
}

func (l *life) take(ctx context.Context, s step) {
	switch s.verb {
	case "wait":
		pause, err := time.ParseDuration(s.words[0])
		l.must(err)
		sleep(ctx, pause)
	case "forever":
		<-ctx.Done()
	case "listen":
		l.listen(s.words[0])
	case "touch":
		l.touch(s.words[0])
		l.record.event("touched", s.words[0])
	case "until":
		for !exists(s.words[0]) && ctx.Err() == nil {
			sleep(ctx, 10*time.Millisecond)
		}
	case "need":
		if !exists(s.words[0]) {
			l.exit(1)
		}
	case "read":
		content, err := os.ReadFile(s.words[0])
		if err != nil {
			l.record.event("unreadable", err)
		} else {
			l.record.event("read", len(content), "bytes as user", os.Getuid())
		}
	case "first":
		if !exists(s.words[0]) {
			l.touch(s.words[0])
			l.exit(l.code(s.words[1]))
		}
	case "exit":
		l.exit(l.code(s.words[0]))
	}
}

// listen returns when the port is open.
func (l *life) listen(port string) {
	listener, err := net.Listen("tcp", ":"+port)
	l.must(err)
	l.record.event("listening", port)
	handler := http.NewServeMux()
	handler.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) { fmt.Fprintln(answer, "ok") })
	handler.HandleFunc("/exit/{code}", func(_ http.ResponseWriter, request *http.Request) {
		l.record.event("told", "to", "exit")
		l.exit(l.code(request.PathValue("code")))
	})
	handler.HandleFunc("/quitquitquit", func(http.ResponseWriter, *http.Request) {
		l.record.event("told", "to", "quit")
		l.exit(0)
	})
	go func() { l.must(http.Serve(listener, handler)) }()
}

func (l *life) touch(path string) {
	l.must(os.WriteFile(path, nil, 0o666))
}

func (l *life) code(word string) int {
	code, err := strconv.Atoi(word)
	l.must(err)
	return code
}

// exit makes the last call and ends the process.
func (l *life) exit(code int) {
	l.calls.last()
	l.record.event("exit", code)
	os.Exit(code)
}

func (l *life) must(err error) {
	if err != nil {
		l.record.event("broken", err)
		os.Exit(3)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func sleep(ctx context.Context, pause time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}
