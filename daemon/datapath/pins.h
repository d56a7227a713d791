// SPDX-License-Identifier: Apache-2.0
// The folder of pins, <bpffs>/sluice/v<ABI>/: maps in it, programs in progs/, attachments in links/ (named by
// ifindex: names of interfaces may contain dots, which bpffs refuses) and sockets/ (by the cgroup's hook),
// firewall generations in generations/<number>/.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/fd.h"
#include "common/result.h"

namespace sluice::datapath {

class Pins {
 public:
  // Makes the folders and locks them: two daemons at once would undo each other's work.
  [[nodiscard]] static Result<Pins> open(const std::string& bpffs);

  [[nodiscard]] const std::string& root() const { return root_; }
  [[nodiscard]] std::string map(const std::string& name) const { return root_ + "/" + name; }
  [[nodiscard]] std::string program(const std::string& name) const { return root_ + "/progs/" + name; }
  [[nodiscard]] std::string link(std::uint32_t ifindex) const;
  // `hook`: of kSocketPrograms.
  [[nodiscard]] std::string socket_link(const std::string& hook) const { return root_ + "/sockets/" + hook; }
  [[nodiscard]] std::string generation(std::uint32_t number) const;
  [[nodiscard]] std::string generation_program(std::uint32_t number) const {
    return generation(number) + "/program";
  }
  [[nodiscard]] std::string generation_policies(std::uint32_t number) const {
    return generation(number) + "/policies";
  }

  [[nodiscard]] std::vector<std::uint32_t> links() const;        // ifindexes
  [[nodiscard]] std::vector<std::uint32_t> generations() const;  // numbers
  [[nodiscard]] std::vector<std::string> maps() const;           // names

  [[nodiscard]] Result<void> make_generation(std::uint32_t number) const;
  void remove_generation(std::uint32_t number) const;

  // An object of the kernel by its pin. ENOENT in Error::code: not pinned.
  [[nodiscard]] static Result<Fd> get(const std::string& path);
  // Pins it there; what was pinned there before is replaced in one step.
  [[nodiscard]] static Result<void> put(int fd, const std::string& path);
  [[nodiscard]] static Result<void> remove(const std::string& path);  // no error if it is not there

 private:
  std::string root_;
  Fd lock_;
};

}  // namespace sluice::datapath
