// Before anything is painted: light or dark as chosen here, else as the system has it.
try {
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch { /* no storage: as the system has it */ }
