package api

// PolicyDocument is a file of rules.
type PolicyDocument struct {
	File string `json:"file"` // for messages
	Text string `json:"text"`
}

// PolicyRequest asks for policies to be applied, or, with DryRun, what would come of that.
type PolicyRequest struct {
	Documents []PolicyDocument `json:"documents"`
	DryRun    bool             `json:"dry_run,omitempty"`
}

// PolicyDelete asks for a policy to be taken back: NAMESPACE/NAME, or NAME where there is only one.
type PolicyDelete struct {
	Name   string `json:"name"`
	DryRun bool   `json:"dry_run,omitempty"`
}

// PolicyChange is what a request changes, or would.
type PolicyChange struct {
	Policies []Policy `json:"policies"` // as they are applied, or were
	Cut      []Flow   `json:"cut"`      // flows of now that the rules no longer let pass
	Undone   bool     `json:"dry_run"`  // nothing has been changed
}

// Policy is one NetworkPolicy.
type Policy struct {
	Name      string   `json:"name"` // NAMESPACE/NAME
	Source    string   `json:"source"`
	Direction []string `json:"directions"` // that it asks about: ingress, egress
	Selected  []string `json:"selected"`   // endpoints
}

// PolicyQuery asks what the rules say of a flow.
type PolicyQuery struct {
	From  string `json:"from"` // a container, or an address
	To    string `json:"to"`
	Port  uint16 `json:"port"`
	Proto string `json:"proto"`
}

// PolicyVerdict is what the rules say.
type PolicyVerdict struct {
	Verdict string     `json:"verdict"` // allow or drop
	Reason  string     `json:"reason,omitempty"`
	Rule    string     `json:"rule,omitempty"`
	Egress  PolicySide `json:"egress"`
	Ingress PolicySide `json:"ingress"`
}

// PolicySide is what the rules of one end say.
type PolicySide struct {
	Asked bool   `json:"asked"` // a policy selects this end for this direction
	Allow bool   `json:"allow"`
	Rule  string `json:"rule,omitempty"`
}
