// A node of Go nano for the interop tests: master, gate or backend, with one service. It reports to the test by printing lines.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand"
	"strings"
	"time"

	"github.com/lonng/nano"
	"github.com/lonng/nano/cluster/clusterpb"
	"github.com/lonng/nano/component"
	"github.com/lonng/nano/serialize/json"
	"github.com/lonng/nano/session"
)

func main() {
	listen := flag.String("listen", "", "where other nodes reach this one")
	master := flag.String("master", "", "the master's address; without one this is the master")
	client := flag.String("client", "", "where clients connect, if they do")
	service := flag.String("service", "Room", "the name of its service")
	label := flag.String("label", "", "what Who answers")
	heartbeat := flag.Duration("heartbeat", time.Second, "of clients and of members")
	retry := flag.Duration("retry", 250*time.Millisecond, "before the next attempt to join")
	id := flag.Uint64("id", 1, "what its session ids are made of")
	flag.Parse()

	session.Lifetime.OnClosed(func(s *session.Session) { fmt.Println("closed", s.UID()) })
	services := &component.Components{}
	services.Register(&Service{label: *label}, component.WithName(*service))
	options := []nano.Option{
		nano.WithComponents(services),
		nano.WithSerializer(json.NewSerializer()),
		nano.WithHeartbeatInterval(*heartbeat),
		nano.WithLabel(*label),
		nano.WithNodeId(*id),
		nano.WithCustomerRemoteServiceRoute(choose),
		nano.WithLogger(logger{}),
	}
	if *master == "" {
		options = append(options, nano.WithMaster())
	} else {
		options = append(options, nano.WithAdvertiseAddr(*master, *retry))
	}
	if *client != "" {
		options = append(options, nano.WithClientAddr(*client))
	}
	nano.Listen(*listen, options...)
	fmt.Println("stopped")
}

// choose takes the member with the label that the session wants, and stores the candidates and that member in the session.
func choose(service string, s *session.Session, members []*clusterpb.MemberInfo) *clusterpb.MemberInfo {
	var offered []string
	var wanted *clusterpb.MemberInfo
	for _, member := range members {
		offered = append(offered, member.ServiceAddr)
		if member.Label == s.String("wanted") {
			wanted = member
		}
	}
	s.Set("offered", strings.Join(offered, " "))
	s.Set("chosen", "")
	if wanted != nil {
		s.Set("chosen", wanted.ServiceAddr)
	}
	if wanted == nil {
		wanted = members[rand.Intn(len(members))]
	}
	return wanted
}

// logger passes nano's log lines to the test, which observes the master through them.
type logger struct{}

func (logger) Println(v ...interface{}) { fmt.Println(append([]interface{}{"nano:"}, v...)...) }

func (logger) Fatal(v ...interface{}) { log.Fatal(v...) }

func (logger) Fatalf(format string, v ...interface{}) { log.Fatalf(format, v...) }

var errSplit = errors.New("not a route and a body")
