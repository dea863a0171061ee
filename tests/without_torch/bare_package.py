"""A pytest plug-in: ``fairseq_ki.store`` without torch and fairseq, which the package imports."""

import sys
import types
from pathlib import Path

package = types.ModuleType("fairseq_ki")
package.__path__ = [str(Path(__file__).resolve().parents[2] / "fairseq_ki")]
sys.modules["fairseq_ki"] = package
