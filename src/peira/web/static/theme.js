// Before the first paint: the theme chosen here earlier, else the system's.
try {
  const theme = localStorage.getItem("peira-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* storage may be shut off: the system's theme holds */ }
