package main

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What the team driver is told by (include/uapi/linux/if_team.h): a list of options, each with a name, a type of netlink attribute and a value.
const (
	teamFamily    = "team"
	teamVersion   = 1
	teamSet       = 1 // TEAM_CMD_OPTIONS_SET
	teamIfindex   = 1 // TEAM_ATTR_TEAM_IFINDEX
	teamList      = 2 // TEAM_ATTR_LIST_OPTION
	teamItem      = 1 // TEAM_ATTR_ITEM_OPTION
	teamName      = 1 // TEAM_ATTR_OPTION_NAME
	teamType      = 3 // TEAM_ATTR_OPTION_TYPE
	teamData      = 4 // TEAM_ATTR_OPTION_DATA
	teamRoundTurn = "roundrobin"
	nlaString     = 5 // include/net/netlink.h
)

// makeTeam makes a team of one. Its mode has to be there before its first port.
func makeTeam(raw netlink.Link) error {
	if err := netlink.LinkAdd(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: spareDevice}, LinkType: "team"}); err != nil {
		return err
	}
	team, err := netlink.LinkByName(spareDevice)
	if err != nil {
		return err
	}
	family, err := netlink.GenlFamilyGet(teamFamily)
	if err != nil {
		return fmt.Errorf("find the team driver: %w", err)
	}
	list := nl.NewRtAttr(teamList|unix.NLA_F_NESTED, nil)
	option := list.AddRtAttr(teamItem|unix.NLA_F_NESTED, nil)
	option.AddRtAttr(teamName, nl.ZeroTerminated("mode"))
	option.AddRtAttr(teamType, nl.Uint8Attr(nlaString))
	option.AddRtAttr(teamData, nl.ZeroTerminated(teamRoundTurn))
	req := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
	req.AddData(&nl.Genlmsg{Command: teamSet, Version: teamVersion})
	req.AddData(nl.NewRtAttr(teamIfindex, nl.Uint32Attr(uint32(team.Attrs().Index))))
	req.AddData(list)
	// What it has done it tells everybody; where nobody listens, that is the answer (team_nl_options_set_doit).
	if _, err := req.Execute(unix.NETLINK_GENERIC, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("set mode of %s: %w", spareDevice, err)
	}
	return join(raw, team)
}
